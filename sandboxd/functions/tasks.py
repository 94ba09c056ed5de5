"""What a request may give in the place of a function's files: an archive, a template.

Both become files before anything is checked or stored, so a function made with them is no
different from one whose files were given one by one. Those of a task are below `task`, which the
sandbox has a link `/task` to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from sandboxd.functions import taskfs, templates
from sandboxd.protocol.errors import invalid
from sandboxd.protocol.functions import FunctionFile

if TYPE_CHECKING:
    from typing import TypeVar

    from sandboxd.functions.authorise import Principal
    from sandboxd.functions.model import Kind
    from sandboxd.protocol.functions import FunctionFields, TemplateFields
    from sandboxd.state import State

    Fields = TypeVar("Fields", bound=FunctionFields)

_PREFIX: Final = "task/"


async def expand(
    state: State, caller: Principal, params: Fields, kind: Kind, memory_bytes: int
) -> Fields:
    """The params with an archive's and a template's files among `files`.

    ``memory_bytes`` is the limit of a function that says none. Raises RequestError: what
    `taskfs.read` and `templates.files` raise, and `invalid_argument` for a template of what is no
    task.
    """
    if params.archive is None and params.template is None:
        return params
    prefix = _PREFIX if kind == "task" else ""
    files = list(params.files or ())
    if params.template is not None:
        if kind != "task":
            raise invalid(templates.FIELD, f"is for tasks, not for functions of the kind {kind}")
        memory = (params.limits and params.limits.memory_bytes) or memory_bytes
        files += _of_template(params.template, memory)
    if params.archive is not None:
        key = caller.key.name if caller.key is not None else ""
        found = await taskfs.read(state, _bytes(params.archive), caller.tenant, key)
        files += [
            FunctionFile(path=prefix + path, data=data, mode=mode)
            for path, (data, mode) in found.items()
        ]
    return structs.replace(params, files=files, archive=None, template=None)


def _of_template(template: TemplateFields, memory_bytes: int) -> list[FunctionFile]:
    made = templates.files(template.type, template.language, template.config, memory_bytes)
    return [FunctionFile(path=_PREFIX + file.path, data=file.data, mode=file.mode) for file in made]


def _bytes(archive: Any) -> bytes:
    if not isinstance(archive, bytes):
        raise invalid(taskfs.FIELD, "must be the bytes of a tar, zip or squashfs archive")
    return archive
