import "@tensorflow/tfjs-backend-wasm";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import * as tf from "@tensorflow/tfjs-core";
import { layers, type Sequential, sequential } from "@tensorflow/tfjs-layers";
import {
  receiveModel,
  type SharedSocket,
  shareSocket,
  streamModel,
  tensorflowJsList,
  tensorflowJsTensors,
  tensorflowJsTensorsSource,
} from "@tensorwire/stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";

let server: WebSocketServer;
let near: SharedSocket;
let far: SharedSocket;

beforeAll(async () => {
  await tf.setBackend("wasm");
  server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(server, "listening");
  const accepted = once(server, "connection");
  const socket = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  near = shareSocket(socket);
  const [other] = (await accepted) as [WebSocket];
  far = shareSocket(other);
  if (socket.readyState !== WebSocket.OPEN) await once(near.socket, "open");
});

afterAll(() => {
  near.socket.terminate();
  server.close();
});

function network(): Sequential {
  return sequential({
    layers: [
      layers.dense({ inputShape: [300], units: 700, activation: "relu" }),
      layers.batchNormalization(),
      layers.dense({ units: 10, activation: "softmax" }),
    ],
  });
}

const valuesOf = (tensors: readonly tf.Tensor[]): Promise<unknown[]> =>
  Promise.all(
    tensors.map(async (tensor) => {
      const values = createHash("sha256").update(await tensor.data());
      return [tensor.shape, tensor.dtype, values.digest("hex")];
    }),
  );

test("a model of TensorFlow.js takes the weights of another, which came over the framework's socket", async () => {
  const [trained, fresh] = [network(), network()];
  const heard = once(far.socket, "message");
  near.socket.send("weights follow");
  const sent = streamModel(tensorflowJsTensorsSource(trained.getWeights()), near.channel);
  const received = await tensorflowJsList(receiveModel(far.channel), tf.tensor);
  await sent;
  fresh.setWeights(received);
  expect(String((await heard)[0])).toBe("weights follow");
  expect(await valuesOf(fresh.getWeights())).toEqual(await valuesOf(trained.getWeights()));
  const digits = tf.randomUniform([5, 300]);
  const [one, other] = [trained.predict(digits), fresh.predict(digits)] as tf.Tensor[];
  expect(await other!.data()).toEqual(await one!.data());
});

test("a NamedTensorMap comes back as one, of all dtypes, and no other tensor is left behind", async () => {
  const before = tf.memory().numTensors;
  const map: tf.NamedTensorMap = {
    "encoder/kernel": tf.randomNormal([1200, 1000]),
    steps: tf.tensor([3, -3], [2], "int32"),
    mask: tf.tensor([true, false, true], [3], "bool"),
    rate: tf.scalar(0.25),
  };
  const sent = streamModel(tensorflowJsTensorsSource(map), far.channel);
  const back = await tensorflowJsTensors(receiveModel(near.channel), tf.tensor);
  await sent;
  expect(Object.keys(back)).toEqual(Object.keys(map));
  expect(await valuesOf(Object.values(back))).toEqual(await valuesOf(Object.values(map)));
  tf.dispose([map, back]);
  expect(tf.memory().numTensors).toBe(before);
});

test("eight bits of each weight leave a network that predicts as it did", async () => {
  const [trained, fresh] = [network(), network()];
  const sent = streamModel(tensorflowJsTensorsSource(trained.getWeights()), near.channel, {
    codec: "blockwise8",
  });
  fresh.setWeights(await tensorflowJsList(receiveModel(far.channel), tf.tensor));
  expect((await sent).wireBytes).toBeLessThan(0.3 * 4 * trained.countParams());
  const digits = tf.randomUniform([50, 300]);
  const [one, other] = [trained.predict(digits), fresh.predict(digits)] as tf.Tensor[];
  const apart = tf.max(tf.abs(tf.sub(one!, other!)));
  expect((await apart.data())[0]).toBeLessThan(0.05);
});
