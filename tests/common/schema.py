"""Checks JSON against docs/schema: reads one `[definition, value]` per line, and writes one list of errors per line."""

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
