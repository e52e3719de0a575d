"""Print the oldest versions that pyproject.toml allows, one `name==version` a line. CI tests them:

    python tools/floors.py > floors.txt
    pip install -c floors.txt -e ".[data,imagenet,lab,minilm,test]"

Standard library only, Python 3.10 too (which cannot read TOML): it runs before anything is installed.
"""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def floors() -> dict[str, str]:
    """name -> oldest version, of the dependencies and of all extras."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.search(r"^\[project\]$(.*?)^\[project\.urls\]$", text, re.M | re.S)[1]
    return dict(sorted(re.findall(r'"([\w.-]+)>=([\w.]+)"', project)))


if __name__ == "__main__":
    for name, version in floors().items():
        print(f"{name}=={version}")
