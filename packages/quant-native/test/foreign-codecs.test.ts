import { type Codec, CodecRegistry, type CodecSpec, none, xxh64 } from "@tensorwire/core";
import { expect, it } from "vitest";
import { loadNativeBackend } from "../src/index.js";
import { addonPath, describeNative } from "./instruction-sets.js";

/** `none` with every byte inverted, under any name. */
function inverted(name: string, id: number): Codec {
  const flip = (bytes: Uint8Array) => bytes.forEach((byte, i) => void (bytes[i] = byte ^ 0xff));
  const plain = (spec: CodecSpec) => ({ ...spec, name: "none" });
  return {
    name,
    id,
    resolve: (spec) => spec,
    supports: () => true,
    payloadBytes: (spec, dtype, elements) => none.payloadBytes(plain(spec), dtype, elements),
    scaleBytes: () => 0,
    encode(spec, dtype, elements, source, target) {
      const encoded = none.encode(plain(spec), dtype, elements, source, target);
      flip(target.subarray(0, encoded.bytes));
      return encoded;
    },
    decode(spec, dtype, elements, payload, output, target) {
      none.decode(plain(spec), dtype, elements, payload, output, target);
      flip(target.subarray(0, payload.length));
    },
  };
}

describeNative("a codec that the addon does not have", () => {
  it.each([
    { name: "inverted", id: 1000 },
    { name: "float4", id: 4 },
  ])("runs as its reference, even under the name $name", async ({ name, id }) => {
    const codecs = new CodecRegistry([none, inverted(name, id)]);
    const backend = loadNativeBackend({ codecs, addon: addonPath })!;
    const source = Uint8Array.of(1, 2, 3, 4);
    const target = new Uint8Array(4);
    const job = { codec: { name }, dtype: "F32", elements: 1 } as const;
    const { hash } = await backend.encode({ ...job, source, target });
    expect([...target]).toEqual([254, 253, 252, 251]);
    expect(hash).toBe(xxh64(target));
    const back = new Uint8Array(4);
    await backend.decode({ ...job, payload: target, hash, output: "F32", target: back });
    expect(back).toEqual(source);
  });
});
