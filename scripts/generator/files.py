"""The files of a new feature, rendered from the templates beside this module."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mako.template import Template

from generator.checkout import sources
from generator.fields import Field
from generator.words import Words, camel

TEMPLATES: Final = Path(__file__).parent / "templates"


def render(root: Path, words: Words, fields: Sequence[Field]) -> dict[Path, str]:
    """Return the text of each file of a feature, not formatted yet."""
    unique = next((field for field in fields if field.is_unique), None)
    values = {
        "words": words,
        "fields": fields,
        "unique": unique,
        "taken": f"{words.model}{camel(unique.name)}Taken" if unique else "",
        "constraint": f"uq_{words.plural}_owner_id_{unique.name}" if unique else "",
    }
    return {path: _rendered(template, values) for path, template in _templates(root, words.plural).items()}


def _templates(root: Path, name: str) -> dict[Path, str]:
    """Return the template of each file."""
    db, api = sources(root, "db") / "features" / name, sources(root, "api") / "features" / name
    return {
        db / "__init__.py": "init",
        db / "models.py": "models",
        db / "repository.py": "repository",
        db / "factories.py": "factories",
        api / "__init__.py": "init",
        api / "schemas.py": "schemas",
        api / "errors.py": "errors",
        api / "service.py": "service",
        api / "router.py": "router",
        root / f"packages/db/tests/features/{name}/test_repository.py": "test_repository",
        root / f"packages/api/tests/features/{name}/test_router.py": "test_router",
        root / f"packages/db/changelog.d/+{name}.feature.md": "fragment_db",
        root / f"packages/api/changelog.d/+{name}.feature.md": "fragment_api",
    }


def _rendered(template: str, values: dict[str, object]) -> str:
    text: str = Template(filename=str(TEMPLATES / f"{template}.mako"), strict_undefined=True).render(**values)  # noqa: S702  # writes Python, not HTML
    return text
