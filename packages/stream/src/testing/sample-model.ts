import { byteLength, type DType, elementCount, type ModelInfo, type Tensor } from "@tensorwire/core";

/** A tensor of a sample model, with its bytes. */
export type SampleTensor = Tensor & { readonly data: Uint8Array };

const SHAPES: readonly [string, DType, readonly number[]][] = [
  ["scalar", "F32", []],
  ["empty", "F32", [0, 4]],
  ["weight", "F32", [100, 333]],
  ["half", "F16", [3, 4097]],
  ["ids", "I64", [129]],
  ["mask", "BOOL", [77]],
  ["double", "F64", [8193]],
  ["eighth", "F8_E4M3", [50_000]],
  ["last", "BF16", [0]],
];

/** Tensors that a source or sink must carry: scalars, empty ones, small, odd and chunked ones, of several dtypes. */
export function sampleTensors(): SampleTensor[] {
  return SHAPES.map(([name, dtype, shape], t) => {
    const data = new Uint8Array(byteLength(dtype, elementCount(shape)));
    for (let i = 0; i < data.length; i++)
      data[i] = dtype === "BOOL" ? i & 1 : (i * 31 + (i >> 8) * 7 + t) & 255;
    return { name, dtype, shape, data };
  });
}

/**
 * The same as a model.
 * @example
 * console.log(sampleModel().tensors.length === sampleTensors().length); // true
 */
export function sampleModel(): ModelInfo {
  const tensors = sampleTensors().map(({ name, dtype, shape }) => ({ name, dtype, shape }));
  return { kind: "model", tensors, metadata: new Map([["format", "pt"]]) };
}
