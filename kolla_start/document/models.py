"""What a document is: the one definition of its sections, keys, types and rules.

Two things are generated from it: the table that a start and `validate` judge by (table.py), and
the JSON Schema for editors (schemas/config.schema.json). The tests hold all three against each
other. It is never imported by a start: pydantic costs more than the whole start.

Nothing is converted: a string is not a number. What real documents have all the same is taken and
remarked on as something to put right: "true" as a boolean, a number as `perm` of `permissions`. A
null stands for an absent key where the program being replaced took it so: in the optional keys of
an entry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Optional, Union

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from kolla_start.document import rules

Predicate = Callable[..., Optional[str]]

# The error type of everything that rules.py says.
FORM = "form"


def _judge(problem: Optional[str]) -> None:
    if problem is not None:
        raise PydanticCustomError(FORM, "{problem}", {"problem": problem})


@dataclass(frozen=True, eq=False)  # pydantic hashes it
class Form:
    """A predicate of rules.py as part of a type, and what JSON Schema can say of it.

    The schema may say less than the predicate, never more. Patterns are ECMA-262's. `remark` says
    of a value that the predicate takes what should be written in its place.
    """

    predicate: Optional[Predicate]
    schema: dict[str, Any]
    remark: Optional[Predicate] = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._good, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self.schema}

    def _good(self, value: Any) -> Any:
        if self.predicate is not None:
            _judge(self.predicate(value))
        return value


_ABSOLUTE = {"pattern": r"^/[^\u0000]*$", "maxLength": 4095}
_NO_DOTS = {**_ABSOLUTE, "pattern": r"^(?![\s\S]*/\.\.?(/|$))/[^\u0000]*$"}
_NO_MAGIC = {**_ABSOLUTE, "pattern": r"^(?![\s\S]*/\.\.?(/|$))/[^\u0000*?\[]*$"}
_FILE = {**_ABSOLUTE, "pattern": r"^(?![\s\S]*/\.\.?(/|$))/[^\u0000*?\[]*[^\u0000*?\[/]$"}
_CAPABILITY = {"pattern": f"^(CAP_)?({'|'.join(rules.CAPABILITIES)})$"}
_FLAG = {"enum": list(rules.TRUE), "deprecated": True}

Text = Annotated[str, Form(rules.text, {"pattern": r"^[^\u0000]*$"})]
Source = Annotated[str, Form(rules.source, _ABSOLUTE)]
Path = Annotated[str, Form(rules.path, _NO_DOTS)]
MadePath = Annotated[str, Form(rules.made_path, _NO_MAGIC)]
MadeFile = Annotated[str, Form(rules.made_file, _FILE)]
Perm = Annotated[str, Form(rules.perm, {"pattern": "^(0o)?[0-7]{3,4}$"})]
Owner = Annotated[str, Form(rules.owner, {"pattern": r"^[^:\s\u0000]+(:[^:\s\u0000]*)?$"})]
User = Annotated[str, Form(rules.user, {"pattern": r"^[^:\s\u0000]+(:[^:\s\u0000]+)?$"})]
Capability = Annotated[str, Form(rules.capability, _CAPABILITY)]
Pattern = Annotated[str, Form(rules.pattern, {"format": "regex"})]
Command = Annotated[str, Form(rules.command, {"pattern": r"^[^\u0000]*$"}, rules.no_command)]
Flag = Union[bool, Annotated[str, Form(rules.flag, _FLAG, rules.flag_as_string)]]
# Whatever it is, the plan decides: only a path that matches something makes it a fault.
PermAsNumber = Annotated[int, Form(None, {"deprecated": True}, rules.number_as_perm)]
Argv = Annotated[list[Text], Form(rules.argv, {"minItems": 1})]


class Section(BaseModel):
    """What all objects of a document share."""

    # Strangers are collected; ConfigFile refuses them. Comments pass everywhere.
    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        json_schema_extra={"patternProperties": {"^[_$]": True}},
    )

    # Rules that need more than one key: where the fault is; the predicate; the other keys. The
    # other keys must be declared before the one that the fault is in.
    RULES: ClassVar[dict[str, tuple[Predicate, tuple[str, ...]]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_comments(cls, value: Any) -> Any:
        if type(value) is not dict:
            return value
        return {k: v for k, v in value.items() if type(k) is not str or not rules.comment(k)}

    @field_validator("*", mode="after")
    @classmethod
    def _together(cls, value: Any, info: ValidationInfo) -> Any:
        rule = cls.RULES.get(info.field_name or "")
        if rule is not None and all(key in info.data for key in rule[1]):
            _judge(rule[0](value, *(info.data[key] for key in rule[1])))
        return value


def _without_default(schema: dict[str, Any]) -> None:
    """A default that stands for an absent key is nothing that a person could write."""
    del schema["default"]


_OWNER = Field(
    title="Owner",
    description="The owner: `user` (also stands for its group), `user:group`, or numeric ids. "
    "Both must exist in the container.",
    examples=["nova", "root:nova", "42436:42436"],
)
_PERM = Field(
    title="Mode",
    description="The mode as a string of 3 or 4 octal digits. Directories get x wherever they "
    "get r.",
    examples=["0600", "0640", "0755"],
)


class ConfigFile(Section):
    """A file or a tree that is copied into place."""

    model_config = ConfigDict(
        title="Configuration file",
        extra="forbid",
        json_schema_extra={
            "patternProperties": {"^[_$]": True},
            "if": {
                "properties": {"preserve_properties": {"enum": [True, *rules.TRUE]}},
                "required": ["preserve_properties"],
            },
            "else": {
                "properties": {"owner": {"type": "string"}, "perm": {"type": "string"}},
                "required": ["owner", "perm"],
            },
        },
    )
    RULES = {
        "owner": (rules.needed, ("preserve_properties",)),
        "perm": (rules.needed, ("preserve_properties",)),
        "preserve_properties": (rules.preservable, ("source",)),
        "dest": (rules.placement, ("source", "merge")),
    }

    source: Source = Field(
        title="Source",
        description="What is copied: an absolute path or a shell pattern, usually below "
        "/var/lib/kolla/config_files. /dev/null is an empty file.",
        examples=["/var/lib/kolla/config_files/nova.conf", "/var/lib/kolla/config_files/*.rules"],
    )
    optional: Optional[Flag] = Field(
        default=False,
        title="Optional",
        description="True: it is no error if the source does not exist.",
        examples=[True],
    )
    merge: Optional[Flag] = Field(
        default=False,
        title="Merge",
        description="True: what else is in the destination directory stays. Without it the "
        "destination ends up equal to the source.",
        examples=[True],
    )
    preserve_properties: Optional[Flag] = Field(
        default=False,
        title="Preserve properties",
        description="True: owner, mode, times, extended attributes and ACLs are the source's; "
        "`owner` and `perm` are without effect.",
        examples=[True],
    )
    owner: Annotated[Optional[Owner], _OWNER] = Field(
        default=None, validate_default=True, json_schema_extra=_without_default
    )
    perm: Annotated[Optional[Perm], _PERM] = Field(
        default=None, validate_default=True, json_schema_extra=_without_default
    )
    dest: Path = Field(
        title="Destination",
        description="Where it goes: an absolute path. One that ends in / is a directory into "
        "which the source goes under its own name.",
        examples=["/etc/nova/nova.conf", "/etc/prometheus/"],
    )


class Directory(Section):
    """A directory that is made if it does not exist, with its parents."""

    path: MadePath = Field(
        title="Path",
        description="The directory: an absolute path, no pattern.",
        examples=["/var/lib/nova/instances"],
    )
    owner: Annotated[Owner, _OWNER]
    perm: Annotated[Perm, _PERM]


class File(Section):
    """An empty file that is made if it does not exist; its directory must."""

    path: MadeFile = Field(
        title="Path",
        description="The file: an absolute path, no pattern.",
        examples=["/var/log/kolla/nova/nova-compute.log"],
    )
    owner: Annotated[Owner, _OWNER]
    perm: Annotated[Perm, _PERM]


class Permission(Section):
    """Owner and mode of what is already there."""

    path: Path = Field(
        title="Path",
        description="Whose owner and mode are set: an absolute path or a shell pattern. It may "
        "match nothing.",
        examples=["/var/log/kolla/nova", "/var/log/kolla/gnocchi/gnocchi-statsd.*"],
    )
    owner: Annotated[Owner, _OWNER]
    perm: Annotated[Union[Perm, PermAsNumber, None], _PERM] = Field(
        default=None, json_schema_extra=_without_default
    )
    recurse: Optional[Flag] = Field(
        default=False,
        title="Recurse",
        description="True: all that is below a directory, too. A link that only root can have "
        "made stands for the one object that it leads to; any other is changed itself.",
        examples=[True],
    )
    exclude: Optional[list[Pattern]] = Field(
        default=None,
        title="Exclude",
        description="Python regular expressions; what has one of them in its full path is left "
        "alone. The path itself is always set.",
        examples=[["/lost\\+found$", "\\.snapshot"]],
    )
    optional: Any = Field(
        default=None,
        title="Optional",
        description="Known and without effect: a path that matches nothing is no error.",
        examples=[True],
    )


class Document(Section):
    """What a container does before its service starts, and what the service is."""

    command: Union[Command, Argv] = Field(
        title="Command",
        description="The service's command. A string is split at blanks and its words expanded "
        "as file patterns, quotes kept; a list of strings is taken exactly as it is.",
        examples=[
            "nova-compute --config-file /etc/nova/nova.conf",
            ["/bin/sh", "-c", "exec service --name 'two words'"],
        ],
    )
    config_files: list[ConfigFile] = Field(
        default=[],
        title="Configuration files",
        description="Files and trees that are copied into place, in this order.",
        examples=[
            [
                {
                    "source": "/var/lib/kolla/config_files/nova.conf",
                    "dest": "/etc/nova/nova.conf",
                    "owner": "nova",
                    "perm": "0600",
                }
            ]
        ],
    )
    directories: list[Directory] = Field(
        default=[],
        title="Directories",
        description="Directories that are made before anything is copied.",
        examples=[[{"path": "/var/lib/nova/instances", "owner": "nova", "perm": "0755"}]],
    )
    files: list[File] = Field(
        default=[],
        title="Files",
        description="Empty files that are made before anything is copied.",
        examples=[[{"path": "/var/log/kolla/nova/a.log", "owner": "nova", "perm": "0640"}]],
    )
    permissions: list[Permission] = Field(
        default=[],
        title="Permissions",
        description="Owner and mode of what is there after all has been copied.",
        examples=[[{"path": "/var/log/kolla/nova", "owner": "nova:nova", "recurse": True}]],
    )
    user: User = Field(
        default="",
        title="User",
        description="Whom the service runs as: `name`, `name:group`, `uid` or `uid:gid`. Without "
        "it KOLLA_SERVICE_USER of the image, else whoever the container runs as.",
        examples=["nova", "nova:libvirt", "42436:42436"],
        json_schema_extra=_without_default,
    )
    capabilities: list[Capability] = Field(
        default=[],
        title="Capabilities",
        description="Capabilities that the unprivileged service keeps, as ambient ones.",
        examples=[["NET_BIND_SERVICE"]],
    )
    no_new_privileges: bool = Field(
        default=False,
        title="No new privileges",
        description="True: neither the service nor its children can gain privileges, by sudo or "
        "any setuid program.",
        examples=[True],
    )


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a document."""
    made = Document.model_json_schema(mode="validation")
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}
