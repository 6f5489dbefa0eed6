// The pictures of an explanation: a strip of launches by layer, a strip of rows by owner, ranks side by side.
// SVG, to stand in a page.
#pragma once

#include <string>
#include <string_view>

#include "explain/explanation.h"

namespace lockstep {

std::string launch_picture(const LaunchStrip& strip);
std::string launch_caption(const LaunchStrip& strip);  // which launch was first; empty: none is marked
std::string row_picture(const RowStrip& strip);
// A line per rank, in time from left to right: a collective joins those that met in it.
std::string meeting_picture(const std::vector<MeetingMark>& meetings);

// Text as it may stand in HTML and SVG, between tags and in quotes.
std::string escaped(std::string_view text);

}  // namespace lockstep
