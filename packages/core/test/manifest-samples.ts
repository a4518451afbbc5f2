import fc from "fast-check";
import {
  byteLength,
  type CodecSpec,
  DTYPE_BITS,
  type DType,
  defaultCodecs,
  elementCount,
  type Manifest,
  type ManifestTensor,
  MIN_CHUNK_BYTES,
  type TensorInfo,
} from "../src/index.js";

const DTYPES = Object.keys(DTYPE_BITS) as DType[];
const CODECS: readonly CodecSpec[] = [
  ...defaultCodecs.names().map((name) => defaultCodecs.resolve(name)),
  defaultCodecs.resolve({ name: "blockwise8", block: 256 }),
];

/** A dtype whose elements of any number fill whole bytes, or a shape that makes them do so. */
const info: fc.Arbitrary<Omit<TensorInfo, "name">> = fc
  .record({
    dtype: fc.constantFrom(...DTYPES),
    // Small products: the default limits would refuse a model of many terabytes.
    shape: fc.tuple(fc.array(fc.nat(9), { maxLength: 4 }), fc.array(fc.nat(3000), { maxLength: 1 })),
  })
  .map(({ dtype, shape }) => ({ dtype, shape: DTYPE_BITS[dtype] < 8 ? [...shape.flat(), 8] : shape.flat() }));

const tensor: fc.Arbitrary<Omit<ManifestTensor, "name">> = info.chain(({ dtype, shape }) =>
  fc
    .constantFrom(...CODECS.filter((codec) => defaultCodecs.get(codec.name).supports(dtype)))
    .map((codec) => ({ dtype, shape, codec })),
);

const name = fc.string({ unit: "binary", maxLength: 20 }).filter((text) => text !== "__metadata__");

/** A safetensors header of these tensors, in this order. */
export function headerOf(tensors: readonly TensorInfo[], metadata?: ReadonlyMap<string, string>): string {
  let at = 0;
  const members = tensors.map(({ name, dtype, shape }) => {
    const begin = at;
    at += byteLength(dtype, elementCount(shape));
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, at] })}`;
  });
  if (metadata) {
    // Not through an object, which would reorder keys that look like integers.
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.unshift(`"__metadata__":{${pairs.join(",")}}`);
  }
  return `{${members.join(",")}}`;
}

/** Any valid manifest of a model. */
export const manifests: fc.Arbitrary<Manifest> = fc
  .record({
    tensors: fc.dictionary(name, tensor, { maxKeys: 12, noNullPrototype: true }),
    metadata: fc.uniqueArray(fc.tuple(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })), {
      selector: ([key]) => key,
      maxLength: 5,
    }),
    chunkBytes: fc.integer({ min: MIN_CHUNK_BYTES, max: 2 ** 24 }),
    hasHeader: fc.boolean(),
    integrity: fc.constantFrom("sha256" as const, undefined),
  })
  .map(({ tensors, metadata, chunkBytes, hasHeader, integrity }) => {
    const named = Object.entries(tensors).map(([name, rest]) => ({ name, ...rest }));
    const pairs = new Map(metadata);
    const text = headerOf(named, pairs);
    const header = hasHeader ? ({ format: "safetensors", text } as const) : undefined;
    return { kind: "model", tensors: named, metadata: pairs, chunkBytes, header, integrity };
  });

/** Three tensors, a header, metadata: what the invalid variants are made of. */
export function sample(): Manifest {
  const codec = defaultCodecs.resolve("normfloat4");
  const none = defaultCodecs.resolve("none");
  const tensors: ManifestTensor[] = [
    { name: "embed.weight", dtype: "F32", shape: [512, 16], codec },
    { name: "scale", dtype: "BF16", shape: [], codec: none },
    { name: "codes", dtype: "F4", shape: [0, 8], codec: none },
    { name: "norm.weight", dtype: "F16", shape: [33], codec: defaultCodecs.resolve("blockwise8") },
  ];
  const metadata = new Map([
    ["format", "pt"],
    ["épôque", "3"],
  ]);
  return {
    kind: "model",
    tensors,
    metadata,
    chunkBytes: 1 << 20,
    header: { format: "safetensors", text: headerOf(tensors, metadata) },
  };
}
