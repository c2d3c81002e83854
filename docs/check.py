"""What no warning of Sphinx tells of a built site: `python docs/check.py build/site`.

Nothing may be loaded from another host, no picture may be missing, no link into the site
may lead nowhere, and every public name must be in the index.
"""

import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import reference

# What a browser loads by itself; a link is only followed by hand.
LOADED = {"src", "srcset", "data", "poster", "action"}
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?\s*(?:https?:)?//", re.IGNORECASE)
IN_SCRIPTS = re.compile(
    r"(?:import\s*\(?|importScripts\(|fetch\(|\.src\s*=|from)\s*['\"`](?:https?:)?//"
)


class Page(HTMLParser):
    """The anchors of a page, and the addresses that it loads or links to."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors, self.loaded, self.links, self.inline = {""}, [], [], []
        self._inside = ""
        self.feed(path.read_text("utf8"))

    def handle_starttag(self, tag, attrs):
        """Notes what an element loads, links to or is called."""
        self._inside = tag
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given.get("id", ""), given.get("name", "")}
        self.inline.append(given.get("style", ""))
        self.loaded += [given[name] for name in LOADED & set(given)]
        if tag == "link" and given.get("rel") not in ("canonical", "author"):
            self.loaded.append(given.get("href", ""))
        elif tag == "a":
            self.links.append(given.get("href", ""))

    def handle_endtag(self, tag):
        """What follows is not inside it any more."""
        self._inside = ""

    def handle_data(self, data):
        """Notes the text of styles and scripts."""
        if self._inside in ("style", "script"):
            self.inline.append(data)


def remote(address: str) -> bool:
    """Whether an address is on another host."""
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https", "ftp")


def troubles(site: Path):
    """Says of each file what is wrong with it."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        yield from ((path, trouble) for trouble in loads(page))
        yield from ((path, trouble) for trouble in lost(site, path, pages))
    for path in (*site.rglob("*.css"), *site.rglob("*.js")):
        expression = IN_STYLES if path.suffix == ".css" else IN_SCRIPTS
        if found := expression.search(path.read_text("utf8")):
            yield path, f"loads from another host: {found[0]}"
    for name in set(reference.names()) - indexed(site / "objects.inv"):
        yield site / "objects.inv", f"lacks {name}"


def loads(page: Page):
    """What a page loads from another host."""
    yield from (f"loads {address}" for address in page.loaded if remote(address))
    for text in page.inline:
        if IN_STYLES.search(text) or IN_SCRIPTS.search(text):
            yield f"loads from another host: {text[:80]}"


def lost(site: Path, path: Path, pages: dict[Path, Page]):
    """The links and pictures of a page that are not there."""
    for address in pages[path].loaded + pages[path].links:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not (target.is_relative_to(site) and target.exists()):
            yield f"leads to {address}, which is not there"
        elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"leads to {address}, which has no such place"


def indexed(inventory: Path) -> set[str]:
    """The names that the site documents."""
    packed = inventory.read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}


if __name__ == "__main__":
    found = list(troubles(Path(sys.argv[1]).resolve()))
    for path, trouble in found:
        print(f"{path}: {trouble}")
    sys.exit(bool(found))
