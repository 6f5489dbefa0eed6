// The pictures of an explanation: a strip of launches by layer, a strip of rows by owner. SVG, to stand in a
// page.
#pragma once

#include <string>
#include <string_view>

#include "explain/explanation.h"

namespace lockstep {

std::string launch_picture(const LaunchStrip& strip);
std::string row_picture(const RowStrip& strip);

// Text as it may stand in HTML and SVG, between tags and in quotes.
std::string escaped(std::string_view text);

}  // namespace lockstep
