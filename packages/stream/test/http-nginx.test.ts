import { afterEach, describe, expect, test } from "vitest";
import {
  type Destination,
  type Listener,
  listen,
  type Origin,
  receiveModel,
  streamModel,
  type TensorMap,
  type TransferSummary,
} from "../src/index.js";
import { hasNginx, Nginx } from "./nginx.js";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const MiB = 2 ** 20;
const ELEMENTS = (32 * MiB) / 4;
const values = new Float32Array(ELEMENTS + 8).map((_, i) => Math.sin(i * 12.9898) * 0.02);
/** 256 MiB, of values that lie over one another. */
const model: TensorMap = Object.fromEntries(
  Array.from({ length: 8 }, (_, i) => [
    `layer.${i}`,
    { dtype: "F32", shape: [ELEMENTS], data: values.subarray(i, i + ELEMENTS) },
  ]),
);

const nowhere = {
  name: "nowhere",
  parallel: false,
  open: async () => {},
  write: () => undefined,
  finish: async () => {},
  abort: async () => {},
};

async function behind(keepAlive = true): Promise<{ listener: Listener; nginx: Nginx }> {
  const listener = await listen({ url: "http://127.0.0.1:0" });
  closers.push(() => listener.close());
  const nginx = await Nginx.before(listener.url, { keepAlive });
  closers.push(() => nginx.dispose());
  return { listener, nginx };
}

/** Both ends of a transfer, and what they have of it in the end. */
function transfer(
  to: Destination,
  from: Origin,
  options: { codec?: string; onBytes?: (bytes: number) => void } = {},
): [Promise<TransferSummary>, Promise<TransferSummary>] {
  const onProgress = ({ sourceBytes }: { sourceBytes: number }): void => options.onBytes?.(sourceBytes);
  const received = receiveModel(from, { to: nowhere }).done;
  return [streamModel(model, to, { codec: options.codec, onProgress }), received];
}

describe.runIf(hasNginx)("through nginx as it comes", () => {
  for (const keepAlive of [false, true]) {
    const upstream = keepAlive ? "that keeps its connections" : "that makes a connection for each request";
    for (const codec of ["none", "normfloat4"]) {
      test(`${upstream}: 256 MiB as ${codec}, pushed and pulled`, async () => {
        const { listener, nginx } = await behind(keepAlive);
        for (const [to, from] of [
          [nginx.url, listener],
          [listener, nginx.url],
        ] as const) {
          const [sent, received] = await Promise.all(transfer(to, from, { codec }));
          expect(sent).toMatchObject({ sourceBytes: 256 * MiB, confirmed: true });
          expect(received.digest).toBe(sent.digest);
        }
        // A body larger than it takes was tried, and not again and again.
        const tooLarge = nginx.requests.filter((line) => line.startsWith("413 "));
        expect(tooLarge.length).toBeGreaterThan(0);
        expect(tooLarge.length).toBeLessThanOrEqual(4);
      }, 120_000);
    }
  }

  for (const way of ["pushed", "pulled"]) {
    test(`that dies while a model is ${way}, and starts again`, async () => {
      const { listener, nginx } = await behind();
      let restarted: Promise<void> | undefined;
      const onBytes = (bytes: number): void => {
        if (bytes > 64 * MiB) restarted ??= nginx.kill().then(() => nginx.start());
      };
      const [to, from] = way === "pushed" ? [nginx.url, listener] : [listener, nginx.url];
      const ends = await Promise.allSettled(transfer(to, from, { onBytes }));
      await restarted;
      expect(ends).toMatchObject([{ status: "fulfilled" }, { status: "fulfilled" }]);
      const [sent, received] = ends.map((end) => (end as PromiseFulfilledResult<TransferSummary>).value);
      expect(received!.digest).toBe(sent!.digest);
    }, 120_000);

    test(`that dies for good while a model is ${way}`, async () => {
      const { listener, nginx } = await behind();
      let killed: Promise<void> | undefined;
      const onBytes = (bytes: number): void => {
        if (bytes > 64 * MiB) killed ??= nginx.kill();
      };
      const [to, from] = way === "pushed" ? [nginx.url, listener] : [listener, nginx.url];
      const ends = await Promise.allSettled(transfer(to, from, { onBytes }));
      await killed;
      for (const end of ends) {
        expect(end).toMatchObject({
          status: "rejected",
          reason: { code: "CHANNEL_CLOSED", retryable: true },
        });
      }
    }, 120_000);
  }
});
