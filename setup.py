"""Description of the package for PyPI, which shows no files of the repository; all else is in setup.cfg."""

import configparser
import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def for_pypi(text: str, source: str | None) -> str:
    """Make relative links and images absolute; without a repository, keep the text and leave out images."""
    relative = r"\]\((?!https?://|#)([^)]+)\)"
    if source is None:
        text = re.sub(rf"^!\[[^]]*{relative}\n\n(\*[^*]+\*\n\n)?", "", text, flags=re.MULTILINE)
        return re.sub(rf"\[([^]]*){relative}", r"\1", text)
    text = re.sub(rf"(!\[[^]]*){relative}", rf"\1]({source}/raw/main/\2)", text)
    return re.sub(relative, rf"]({source}/blob/main/\1)", text)


config = configparser.ConfigParser()
config.read(ROOT / "setup.cfg", encoding="utf-8")
urls = dict(line.split(" = ") for line in config["metadata"]["project_urls"].strip().splitlines())
setup(
    long_description=for_pypi((ROOT / "README.md").read_text(encoding="utf-8"), urls.get("Source")),
    long_description_content_type="text/markdown",
)
