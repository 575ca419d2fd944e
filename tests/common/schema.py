"""Checks JSON against docs/schema: one `[definition, value]` a line on standard input, a list of errors a line on output."""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1]) as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)

for line in sys.stdin:
    name, value = json.loads(line)
    if name not in schema["$defs"]:
        sys.exit(f"{name} is not defined")
    validator = Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": schema["$defs"]})
    print(json.dumps([f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]), flush=True)
