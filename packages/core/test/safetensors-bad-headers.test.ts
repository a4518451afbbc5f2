import { expect, test } from "vitest";
import { parseSafetensorsHeader } from "../src/safetensors/header.js";

const one = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const a = (rest: string) => `{"a":${rest}}`;

test.each<[string, string, number, string]>([
  ["nothing", "", 0, "safetensors header: is empty"],
  ["an array", "[]", 0, 'must begin with "{", begins with "["'],
  ["white space first", " {}", 0, 'must begin with "{", begins with " "'],
  ["a byte order mark", "\ufeff{}", 0, 'must begin with "{", begins with "\ufeff"'],
  [
    "an end too soon",
    '{"a":',
    0,
    'tensor "a": character 5 of the safetensors header: expected an object, found the end',
  ],
  ["text after the end", "{}{}", 0, 'character 2 of the safetensors header: expected the end, found "{}"'],
  ["NUL padding", "{}\0", 0, 'character 2 of the safetensors header: expected the end, found "\\u0000"'],
  ["a trailing comma", `{"a":${one("U8", "[1]", "[0,1]")},}`, 1, "expected a key, found"],
  ["an unquoted key", "{a:1}", 0, 'character 1 of the safetensors header: expected a key, found "a:1}"'],
  [
    "an entry that is a string",
    a('"F32"'),
    0,
    'tensor "a": character 5 of the safetensors header: expected an object, found "\\"F32\\"}"',
  ],
  [
    "an entry that is null",
    a("null"),
    0,
    'tensor "a": character 5 of the safetensors header: expected an object',
  ],
  ["no dtype", a('{"shape":[],"data_offsets":[0,1]}'), 1, 'tensor "a": has no dtype'],
  ["no shape", a('{"dtype":"U8","data_offsets":[0,1]}'), 1, 'tensor "a": has no shape'],
  ["no data_offsets", a('{"dtype":"U8","shape":[]}'), 1, 'tensor "a": has no data_offsets'],
  ["an unknown dtype", a(one("f32", "[1]", "[0,4]")), 4, 'tensor "a": unknown dtype "f32"'],
  ["a dtype of Object's", a(one("toString", "[1]", "[0,4]")), 4, 'tensor "a": unknown dtype "toString"'],
  [
    "a numeric dtype",
    a('{"dtype":1,"shape":[],"data_offsets":[0,1]}'),
    1,
    'tensor "a": character 14 of the safetensors header: expected a string',
  ],
  [
    "an unknown field",
    a('{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":1}'),
    1,
    'tensor "a": unknown field "x"',
  ],
  ["__proto__ as a field", a('{"__proto__":{}}'), 1, 'tensor "a": unknown field "__proto__"'],
  [
    "a field twice",
    a('{"dtype":"U8","dtype":"I8","shape":[],"data_offsets":[0,1]}'),
    1,
    'tensor "a": key "dtype" appears twice',
  ],
  [
    "a field twice, escaped",
    a('{"shape":[],"sh\\u0061pe":[],"dtype":"I8","data_offsets":[0,1]}'),
    1,
    'tensor "a": key "shape" appears twice',
  ],
  [
    "a tensor twice",
    `{"a":${one("U8", "[1]", "[0,1]")},"a":${one("U8", "[1]", "[0,1]")}}`,
    1,
    'tensor "a": appears twice in the safetensors header',
  ],
  [
    "metadata twice",
    '{"__metadata__":{},"__metadata__":{}}',
    0,
    'tensor "__metadata__": appears twice in the safetensors header',
  ],
  [
    "a metadata key twice",
    '{"__metadata__":{"k":"1","k":"2"}}',
    0,
    'safetensors header: key "k" appears twice',
  ],
  [
    "metadata of numbers",
    '{"__metadata__":{"k":1}}',
    0,
    'character 21 of the safetensors header: expected a string, found "1}}"',
  ],
  [
    "metadata that is null",
    '{"__metadata__":null}',
    0,
    'character 16 of the safetensors header: expected an object, found "null}"',
  ],
  ["metadata that is a list", '{"__metadata__":[]}', 0, "expected an object"],
  [
    "a negative dimension",
    a(one("U8", "[-1]", "[0,1]")),
    1,
    'tensor "a": character 28 of the safetensors header: expected a count below 2^53, found "-1]',
  ],
  [
    "a fraction",
    a(one("U8", "[1.5]", "[0,1]")),
    1,
    'tensor "a": character 28 of the safetensors header: expected a count below 2^53, found "1.5]',
  ],
  [
    "a float that is whole",
    a(one("U8", "[1.0]", "[0,1]")),
    1,
    'tensor "a": character 28 of the safetensors header: expected a count',
  ],
  [
    "a dimension of 2^53",
    a(one("U8", "[9007199254740992]", "[0,1]")),
    1,
    'tensor "a": character 28 of the safetensors header: expected a count below 2^53',
  ],
  [
    "a dimension that rounds into range",
    a(one("U8", "[9007199254740991.4]", "[0,1]")),
    1,
    'tensor "a": character 28 of the safetensors header: expected a count',
  ],
  [
    "a shape that overflows",
    a(one("U8", "[94906267,94906267]", "[0,1]")),
    1,
    'tensor "a": shape [94906267,94906267] has more than 2^53 elements',
  ],
  [
    "a shape that overflows before a zero",
    a(one("U8", "[94906267,94906267,0]", "[0,0]")),
    0,
    "has more than 2^53 elements",
  ],
  [
    "bytes that overflow",
    a(one("F64", "[4503599627370496]", "[0,8]")),
    8,
    'tensor "a": 4503599627370496 elements of F64 are more than 2^53 bytes',
  ],
  [
    "a shape that is a number",
    a(one("U8", "1", "[0,1]")),
    1,
    'tensor "a": character 27 of the safetensors header: expected an array',
  ],
  [
    "offsets of one",
    a(one("U8", "[1]", "[0]")),
    1,
    'tensor "a": data_offsets [0] are not a begin and an end',
  ],
  [
    "offsets of three",
    a(one("U8", "[1]", "[0,1,2]")),
    1,
    'tensor "a": data_offsets are more than a begin and an end',
  ],
  [
    "offsets reversed",
    a(one("U8", "[1]", "[1,0]")),
    1,
    'tensor "a": data_offsets [1,0] end before they begin',
  ],
  [
    "offsets of other bytes",
    a(one("F32", "[3]", "[0,8]")),
    8,
    'tensor "a": data_offsets [0,8] are 8 bytes, but F32 [3] takes 12',
  ],
  [
    "offsets of more bytes",
    a(one("F32", "[3]", "[0,16]")),
    16,
    'tensor "a": data_offsets [0,16] are 16 bytes, but F32 [3] takes 12',
  ],
  ["half a byte", a(one("F4", "[3]", "[0,2]")), 2, 'tensor "a": 3 elements of F4 do not fill whole bytes'],
  [
    "six bits",
    a(one("F6_E2M3", "[3]", "[0,3]")),
    3,
    'tensor "a": 3 elements of F6_E2M3 do not fill whole bytes',
  ],
  [
    "data that begins late",
    a(one("U8", "[1]", "[1,2]")),
    2,
    'tensor "a": data_offsets [1,2] leave a hole of 1 bytes after the beginning of the data',
  ],
  [
    "a hole",
    `{"a":${one("U8", "[1]", "[0,1]")},"b":${one("U8", "[1]", "[3,4]")}}`,
    4,
    'tensor "b": data_offsets [3,4] leave a hole of 2 bytes after tensor "a" at [0,1]',
  ],
  [
    "an overlap",
    `{"b":${one("U8", "[2]", "[1,3]")},"a":${one("U8", "[2]", "[0,2]")}}`,
    3,
    'tensor "b": data_offsets [1,3] overlap tensor "a" at [0,2]',
  ],
  [
    "two of the same place",
    `{"a":${one("U8", "[2]", "[0,2]")},"b":${one("U8", "[2]", "[0,2]")}}`,
    2,
    'tensor "b": data_offsets [0,2] overlap tensor "a" at [0,2]',
  ],
  [
    "an empty tensor inside another",
    `{"a":${one("U8", "[2]", "[0,2]")},"b":${one("U8", "[0]", "[1,1]")}}`,
    2,
    'tensor "b": data_offsets [1,1] overlap tensor "a"',
  ],
  [
    "a truncated file",
    a(one("U8", "[2]", "[0,2]")),
    1,
    "the file is truncated: its tensors take 2 bytes of data, the file has 1",
  ],
  [
    "bytes after the data",
    a(one("U8", "[2]", "[0,2]")),
    3,
    "the file has bytes that no tensor owns: its tensors take 2 bytes of data, the file has 3",
  ],
  ["bytes without tensors", "{}", 1, "the file has bytes that no tensor owns"],
  [
    "half a surrogate pair in a name",
    '{"\\ud800":{}}',
    0,
    "character 1 of the safetensors header: a string with half a surrogate pair, which is not Unicode",
  ],
  [
    "a bad escape",
    '{"\\x":{}}',
    0,
    "character 1 of the safetensors header: a string with a bad escape or a control character",
  ],
  [
    "a control character",
    '{"\n":{}}',
    0,
    "character 1 of the safetensors header: a string with a bad escape or a control character",
  ],
  [
    "a string without end",
    '{"a',
    0,
    'character 1 of the safetensors header: expected a string that ends, found "\\"a"',
  ],
  [
    "a name of many lines",
    `{"a\\n${"x".repeat(300)}":1}`,
    0,
    `tensor "a\\n${"x".repeat(195)}...": character 307 of the safetensors header: expected an object`,
  ],
])("a header with %s is refused", (_, text, dataBytes, message) => {
  const header = new TextEncoder().encode(text);
  expect(() => parseSafetensorsHeader(header, 8 + header.length + dataBytes)).toThrow(
    expect.objectContaining({
      name: "TensorwireError",
      code: "SOURCE_INVALID",
      message: expect.stringContaining(message),
    }),
  );
});
