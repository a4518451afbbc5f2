import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { TensorwireError } from "../src/errors.js";
import { parseSafetensorsHeader, safetensorsHeaderLength } from "../src/safetensors/header.js";
import { serializeSafetensorsHeader } from "../src/safetensors/serialize.js";

const folder = new URL("fixtures/safetensors/", import.meta.url);
const json = (name: string) => JSON.parse(readFileSync(new URL(name, folder), "utf8"));

interface Expected {
  dtype: string;
  shape: number[];
  hex: string;
}

function parse(file: Uint8Array) {
  const length = safetensorsHeaderLength(file.subarray(0, 8), file.length);
  return parseSafetensorsHeader(file.subarray(8, 8 + length), file.length);
}

describe("files of the reference implementation", () => {
  const expected: Record<string, Record<string, Expected>> = json("expected.json");

  test.each(Object.keys(expected))("%s is read as the reference reads it", (name) => {
    const file = readFileSync(new URL(`${name}.safetensors`, folder));
    const { headerBytes, tensors } = parse(file);
    const data = file.subarray(8 + headerBytes);
    const found = tensors.map(({ info, begin, end }) => [
      info.name,
      { dtype: info.dtype, shape: info.shape, hex: data.subarray(begin, end).toString("hex") },
    ]);
    expect(Object.fromEntries(found)).toEqual(expected[name]);
    expect(tensors).toHaveLength(Object.keys(expected[name]!).length);
  });

  test.each(["dtypes", "scalar-and-empty", "no-tensors"])(
    "%s is written as the reference writes it",
    (name) => {
      const file = readFileSync(new URL(`${name}.safetensors`, folder));
      const { headerBytes, metadata, tensors } = parse(file);
      const { bytes } = serializeSafetensorsHeader(
        tensors.map(({ info }) => info),
        metadata,
      );
      expect(Buffer.from(bytes).toString()).toBe(file.subarray(0, 8 + headerBytes).toString());
    },
  );

  test("header-order keeps the data's order, and the header's where there is no data", () => {
    const { metadata, tensors } = parse(readFileSync(new URL("header-order.safetensors", folder)));
    expect(tensors.map(({ info }) => info.name)).toEqual(["a", "2", "1", "10", "b"]);
    expect(metadata).toEqual(new Map([["order", "of the header is not that of the data"]]));
  });

  test("what the reference refuses is refused, and little else", () => {
    const verdicts: { header: string; data: number; valid: boolean }[] = json("verdicts.json");
    const stricter: string[] = [];
    for (const { header, data, valid } of verdicts) {
      const bytes = Buffer.from(header, "base64");
      let fault: string | undefined;
      try {
        parseSafetensorsHeader(bytes, 8 + bytes.length + data);
      } catch (error) {
        expect(error).toBeInstanceOf(TensorwireError);
        fault = (error as TensorwireError).message;
      }
      if (!valid) expect(fault, bytes.toString()).toBeDefined();
      else if (fault !== undefined) stricter.push(fault);
    }
    for (const fault of stricter) expect(fault).toMatch(/must begin with "\{"|unknown field|appears twice/);
    expect(stricter.length).toBeLessThan(20);
  });
});
