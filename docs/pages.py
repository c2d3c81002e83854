"""Names of pages, such as `docs/speed.md`, are links with the page's title here.

The README is read where its links would lead nowhere, on the page of the package and in a
terminal, so it has names. On the site it is the first page, and its names lead on.
"""

import re

from docstrings import linked
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

PAGE = re.compile(r"docs/(\w+)\.md")


class PageLinks(SphinxPostTransform):
    """Makes links of the names of pages in the text of all pages."""

    default_priority = 5  # ahead of the one that finds where links lead

    def run(self, **kwargs):
        """Puts a reference in the place of each literal that names a page."""
        about = {"refdomain": "std", "reftype": "doc", "refexplicit": False}
        for code in list(self.document.findall(nodes.literal)):
            name = PAGE.fullmatch(code.astext())
            if name and not linked(code.parent):
                about |= {"reftarget": f"/{name[1]}", "refdoc": self.env.docname}
                link = addnodes.pending_xref("", code.deepcopy(), refwarn=True, **about)
                code.replace_self(link)


def setup(app):
    """Adds the links, which warn where there is no such page."""
    app.add_post_transform(PageLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
