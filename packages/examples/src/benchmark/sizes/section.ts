import { defaultCodecs, type TensorInfo } from "@tensorwire/core";
import {
  type CodecSpec,
  cast,
  type DType,
  EVALUATED_CODECS,
  evaluateModel,
  fromTensors,
  type Tensor,
} from "@tensorwire/stream";
import { demoModel, MODEL } from "../../demo/model.js";
import { elementsOf } from "../../model/noise-model.js";
import { fillNoise } from "../../model/noise.js";
import { f32Bytes, llamaShapes } from "../models.js";
import type { BenchmarkContext, Section } from "../section.js";
import type { SizesData, SizesOf } from "./data.js";
import { renderSizes } from "./page.js";
import { inDType, plannedSize } from "./planned.js";
import { PUBLISHED_SIZES } from "./published.js";
import { sizesVerdicts } from "./verdicts.js";

const CODECS: readonly CodecSpec[] = [...EVALUATED_CODECS, { name: "float4", nested: true }];

export const sizes: Section<SizesData> = {
  id: "sizes",
  title: "Sizes",
  measure: measureSizes,
  render: renderSizes,
  verdicts: sizesVerdicts,
};

export async function measureSizes({
  log,
  quick,
}: Pick<BenchmarkContext, "log" | "quick">): Promise<SizesData> {
  const shapes = llamaShapes();
  log("by arithmetic");
  const planned = (codec: CodecSpec, dtype: DType = "F32") => ({
    codec,
    ...plannedSize(inDType(shapes, dtype), codec),
  });
  const table = PUBLISHED_SIZES.flatMap(({ codecs }) => codecs.map((codec) => planned(codec)));
  const { path } = demoModel();
  const sources: SizesOf[] = [];
  for (const dtype of ["F32", "BF16"] as const) {
    log(`${MODEL} in ${dtype}`);
    const source = dtype === "F32" ? path : cast(path, dtype);
    const { codecs } = await evaluateModel(source, { codecs: CODECS, minElements: 0 });
    const real = codecs.map(({ codec, bitsPerWeight, packedBitsPerWeight }) => ({
      ...{ codec, bits: bitsPerWeight, packedBits: packedBitsPerWeight },
    }));
    sources.push({ dtype, planned: CODECS.filter(isPlain).map((codec) => planned(codec, dtype)), real });
  }
  log("encoding a part");
  return {
    tensors: shapes.length,
    elements: f32Bytes(shapes) / 4,
    ...{ table, sources, checked: await check(part(shapes, quick)) },
    trained: { name: MODEL, elements: demoModel().weights },
  };
}

/** Whether a payload's length is known without its values. */
function isPlain({ name }: CodecSpec): boolean {
  const codec = defaultCodecs.get(name);
  return !codec.payloadSizes && !codec.packs;
}

/** A matrix of each kind, and a norm: in all, about a fortieth of the model. */
function part(shapes: readonly TensorInfo[], quick: boolean): TensorInfo[] {
  const wanted = quick
    ? /layers\.0\..*(k_proj|input_layernorm)/
    : /layers\.0\..*(q_proj|k_proj|up_proj|input_layernorm)/;
  return shapes.filter(({ name }) => wanted.test(name));
}

/** Really encodes noise of those shapes, and holds what comes out against the arithmetic. */
async function check(tensors: readonly TensorInfo[]): Promise<SizesData["checked"]> {
  const codecs = CODECS.filter(isPlain);
  const all = tensors.map((info, index): Tensor => {
    const data = new Float32Array(elementsOf(info));
    fillNoise(data, index);
    return { ...info, data };
  });
  const { codecs: found } = await evaluateModel(fromTensors(tensors, all), { codecs, minElements: 0 });
  const wrong = found.filter(({ bytes, scaleBytes }, i) => {
    const { codes, scales } = plannedSize(tensors, codecs[i]!);
    return bytes !== codes + scales || scaleBytes !== scales;
  });
  return {
    ...{ tensors: tensors.length, bytes: f32Bytes(tensors), codecs: codecs.length },
    wrong: wrong.map(({ codec }) => codec.name),
  };
}
