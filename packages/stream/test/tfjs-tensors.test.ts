import { expect, it } from "vitest";
import {
  memoryChannelPair,
  receiveModel,
  streamModel,
  tensorflowJsList,
  tensorflowJsTensors,
  tensorflowJsTensorsSource,
  tensorList,
  type TfjsTensors,
} from "../src/index.js";

/** A tensor as TensorFlow.js has it, as far as this library knows. */
class Tensor {
  asked = 0;
  disposed = false;

  constructor(
    readonly values: Float32Array | Int32Array | Uint8Array,
    readonly shape: number[],
    readonly dtype: string,
  ) {}

  async data(): Promise<Float32Array | Int32Array | Uint8Array> {
    if (this.disposed) throw new Error("Tensor is disposed.");
    this.asked++;
    return this.values;
  }

  dispose(): void {
    this.disposed = true;
  }
}

const make = (...of: ConstructorParameters<typeof Tensor>): Tensor => new Tensor(...of);

const bytes = ({ values }: Pick<Tensor, "values">): Buffer =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength);

const tensors = () => ({
  "dense/kernel": new Tensor(
    Float32Array.from({ length: 3_000_000 }, (_, i) => i),
    [3000, 1000],
    "float32",
  ),
  steps: new Tensor(Int32Array.of(7, -7), [2], "int32"),
  mask: new Tensor(Uint8Array.of(1, 0, 1), [3], "bool"),
  scalar: new Tensor(Float32Array.of(0.5), [], "float32"),
});

async function moved<T>(
  source: TfjsTensors,
  take: (received: ReturnType<typeof receiveModel>) => Promise<T>,
): Promise<T> {
  const [near, far] = memoryChannelPair();
  const taken = take(receiveModel(far));
  const sent = streamModel(tensorflowJsTensorsSource(source), near);
  const [result] = await Promise.all([taken, sent]);
  return result;
}

it("tensors of TensorFlow.js arrive as such, by name, and are asked for their values once each", async () => {
  const source = tensors();
  const arrived = await moved(source, (received) => tensorflowJsTensors(received, make));
  expect(Object.keys(arrived)).toEqual(Object.keys(source));
  for (const [name, { values, shape, dtype, asked }] of Object.entries(source)) {
    expect(arrived[name]).toMatchObject({ shape, dtype });
    expect(arrived[name]!.values.constructor).toBe(values.constructor);
    expect(bytes(arrived[name]!).equals(bytes({ values }))).toBe(true);
    expect(asked).toBe(1);
  }
});

it("a list arrives as a list", async () => {
  const list = Object.values(tensors());
  const arrived = await moved(list, (received) => tensorflowJsList(received, make));
  expect(arrived.every((tensor, i) => bytes(tensor).equals(bytes(list[i]!)))).toBe(true);
  const plain = await moved(list, tensorList);
  expect(plain.map(({ name, dtype }) => [name, dtype])).toEqual([
    ["0", "F32"],
    ["1", "I32"],
    ["2", "BOOL"],
    ["3", "F32"],
  ]);
  const [near, far] = memoryChannelPair();
  const values = [plain[0]!.data, plain[1]!.data].map((data) => ({
    dtype: "U8" as const,
    shape: [data.length],
    data,
  }));
  const [again] = await Promise.all([tensorList(receiveModel(far)), streamModel(values, near)]);
  expect(again.map(({ shape }) => shape)).toEqual([[12_000_000], [8]]);
});

it("what TensorFlow.js does not have is refused, and what was made of the rest disposed of", async () => {
  const made: Tensor[] = [];
  const keep = (...of: ConstructorParameters<typeof Tensor>): Tensor => {
    made.push(make(...of));
    return made.at(-1)!;
  };
  const halves = { dtype: "BF16" as const, shape: [2], data: new Uint8Array(4) };
  const whole = { dtype: "F32" as const, shape: [1], data: new Uint8Array(4) };
  const received = async (options: object): Promise<unknown> => {
    const [near, far] = memoryChannelPair();
    const sent = streamModel({ a: whole, b: halves }, near).catch(() => {});
    return tensorflowJsTensors(receiveModel(far, options), keep).finally(() => sent);
  };
  await expect(received({})).rejects.toMatchObject({ code: "INVALID_ARGUMENT", tensor: "b" });
  expect(made.map(({ disposed }) => disposed)).toEqual([true]);
  await received({ outputDtype: "F32" });
  const words = { words: new Tensor(Uint8Array.of(), [0], "string") };
  await expect(moved(words, tensorList)).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(moved(tensors(), (each) => tensorflowJsList(each, make))).rejects.toMatchObject({
    code: "SOURCE_MISMATCH",
  });
});

it("a tensor that was disposed of ends the transfer, with its name", async () => {
  const source = tensors();
  source.steps.dispose();
  const [near, far] = memoryChannelPair();
  const taken = tensorList(receiveModel(far)).catch((error) => error);
  const sent = streamModel(tensorflowJsTensorsSource(source), near);
  await expect(sent).rejects.toMatchObject({ code: "SOURCE_READ", tensor: "steps" });
  expect(await taken).toMatchObject({ code: "PEER_FAILED", peerCode: "SOURCE_READ" });
});
