"""A page taken apart: what it says by section, and whether its tags are in order."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, attributes and text by section; fails on a tag that is closed out of turn."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {"": []}
        self.section = ""
        self.headings: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        given = dict(attrs)
        if tag == "section" and given.get("class") == "study":
            self.section = given["id"]
            self.text[self.section] = []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.text[self.section].append(data)

    def said(self, section: str = "") -> str:
        return " ".join(" ".join(self.text[section]).split())
