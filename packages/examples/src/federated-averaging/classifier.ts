import { setThreadsCount } from "@tensorflow/tfjs-backend-wasm";
import * as tf from "@tensorflow/tfjs-core";
import { initializers, layers, type Sequential, sequential } from "@tensorflow/tfjs-layers";
import type { ReceivedTensor, TensorValue } from "@tensorwire/stream";
import { Chance } from "./chance.js";
import { type Digits, LABELS, PIXELS, pick } from "./digits.js";

/** The tensors of a model by name, as `streamModel` takes them. */
export type Weights = ReadonlyMap<string, TensorValue>;

/** How good a model is: its mean loss, and which part of the digits it takes for what they are. */
export interface Score {
  readonly loss: number;
  readonly accuracy: number;
}

const HIDDEN = 64;
const BATCH = 16;

/** It falls from round to round: models that were trained apart, with other digits each, come together. */
const LEARNING_RATE = 0.1;
const FALL = 0.85;

// One thread sums in the same order each time: the same seed gives the same model.
setThreadsCount(1);
await tf.setBackend("wasm");

/** Tells which number a handwritten digit is: three dense layers of TensorFlow.js, 55,050 weights. */
export class Classifier {
  readonly #optimizer = tf.train.sgd(LEARNING_RATE);
  readonly #model: Sequential;

  /** @param seed Of its first weights. */
  constructor(seed: number) {
    const dense = (name: string, inputs: number, units: number, activation: "relu" | "softmax") => {
      const kernelInitializer = initializers.heNormal({ seed: new Chance(seed, name).seed() });
      return layers.dense({ name, inputShape: [inputs], units, activation, kernelInitializer });
    };
    this.#model = sequential({
      layers: [
        dense("first", PIXELS, HIDDEN, "relu"),
        dense("second", HIDDEN, HIDDEN, "relu"),
        dense("digit", HIDDEN, LABELS, "softmax"),
      ],
    });
    this.#model.compile({
      optimizer: this.#optimizer,
      loss: "categoricalCrossentropy",
      metrics: ["accuracy"],
    });
  }

  /** A copy of its weights: `first/kernel`, `first/bias` and so on. */
  async weights(): Promise<Weights> {
    const weights = new Map<string, TensorValue>();
    for (const variable of this.#model.weights) {
      const value = variable.read();
      weights.set(variable.originalName, { dtype: "F32", shape: value.shape, data: await value.data() });
    }
    return weights;
  }

  /** Takes a model's weights, tensor by tensor as they come. */
  async load(tensors: AsyncIterable<ReceivedTensor>): Promise<void> {
    const variables = new Map(this.#model.weights.map((variable) => [variable.originalName, variable]));
    for await (const { name, shape, data } of tensors) {
      const floats = new Float32Array(data.buffer, data.byteOffset, data.byteLength / 4);
      const value = tf.tensor(floats, [...shape]);
      variables.get(name)!.write(value);
      value.dispose();
    }
  }

  /** Sees all digits once, in an order of its own for each seed, client and round. */
  async train(digits: Digits, round: number, chance: Chance): Promise<void> {
    this.#optimizer.setLearningRate(LEARNING_RATE * FALL ** (round - 1));
    const [inputs, expected] = tensorsOf(pick(digits, chance.shuffled(digits.labels.length)));
    await this.#model.fit(inputs, expected, { batchSize: BATCH, shuffle: false, verbose: 0 });
    tf.dispose([inputs, expected]);
  }

  async evaluate(digits: Digits): Promise<Score> {
    const [inputs, expected] = tensorsOf(digits);
    const scores = this.#model.evaluate(inputs, expected, { batchSize: digits.labels.length }) as tf.Scalar[];
    const [loss, accuracy] = await Promise.all(scores.map(async (score) => (await score.data())[0]!));
    tf.dispose([inputs, expected, ...scores]);
    return { loss: loss!, accuracy: accuracy! };
  }
}

/** Digits, and what the model should make of them: a 1 in the place of the label. */
function tensorsOf({ pixels, labels }: Digits): [tf.Tensor, tf.Tensor] {
  const expected = new Float32Array(labels.length * LABELS);
  labels.forEach((label, i) => {
    expected[i * LABELS + label] = 1;
  });
  return [tf.tensor(pixels, [labels.length, PIXELS]), tf.tensor(expected, [labels.length, LABELS])];
}
