"""A reader of C++ that is just good enough to find functions and variables: no types, no templates."""
import re
from typing import NamedTuple

_SKIP = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.S)
_DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.)*(?:\\\n(?:[^\n\\]|\\.)*)*', re.M)
_TYPE = re.compile(r'(?:template\b.*>\s*)?(?:(?:public|private|protected)\s*:\s*)*(?:class|struct|union|enum)\b[^()=]*$', re.S)
_BODY = re.compile(r'\)\s*(?:const\b|noexcept\b|override\b|final\b|mutable\b|&|->[^;]*|requires\b.*|:[^;]*)*\s*$', re.S)
_MEMBER_INIT = re.compile(r'\)\s*(?:noexcept\s*)?:[^;]*\w$', re.S)


def _blank(match):
    return re.sub(r'[^\n]', ' ', match.group(0))


def without_comments(text):
    """The text with comments and literals turned into spaces, so that offsets and lines stay."""
    return _SKIP.sub(_blank, text)


class Function(NamedTuple):
    first: int
    last: int
    body_line: int
    body: str


class Scan:
    """functions; statements: (line, scope, text) of the declarations outside of functions."""

    def __init__(self, text):
        self.code = _DIRECTIVE.sub(_blank, without_comments(text))
        self.functions, self.statements = [], []
        self._walk()

    def _line(self, offset):
        return self.code.count('\n', 0, offset) + 1

    def _walk(self):
        scopes, start = [('namespace', 0, 0)], 0
        for match in re.finditer(r'[{};]', self.code):
            at, scope = match.start(), scopes[-1][0]
            begin = start + len(self.code[start:at]) - len(self.code[start:at].lstrip())
            if match.group() == '{':
                kind = self._kind(scope, self.code[begin:at].strip())
                scopes.append((kind, begin, at + 1))
                start = start if kind == 'value' else at + 1
            elif match.group() == '}' and len(scopes) > 1:
                kind, begin, body = scopes.pop()
                if kind == 'function':
                    self.functions.append(Function(self._line(begin), self._line(at), self._line(body), self.code[body:at]))
                start = start if kind == 'value' else at + 1
            elif match.group() == ';':
                if scope in ('namespace', 'type') and self.code[begin:at].strip():
                    self.statements.append((self._line(begin), scope, ' '.join(self.code[begin:at].split())))
                start = at + 1

    @staticmethod
    def _kind(scope, head):
        if scope not in ('namespace', 'type'):
            return 'value' if scope == 'value' else 'block'
        if re.search(r'\bnamespace\b[^=]*$', head) or re.fullmatch(r'extern\s*', head):
            return 'namespace'
        if _TYPE.match(head):
            return 'type'
        if _MEMBER_INIT.search(head) or not _BODY.search(head):
            return 'value'
        return 'function'
