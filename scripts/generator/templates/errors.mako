"""The errors of ${words.many}."""

from app_db.errors import Conflict, NotFound

% if unique:

class ${taken}(Conflict):
    """You already have ${words.a_one} with this ${unique.words}."""

    code = "${words.singular}_${unique.name}_taken"

% endif

class ${words.model}NotFound(NotFound):
    """You have no such ${words.one}."""

    code = "${words.singular}_not_found"
