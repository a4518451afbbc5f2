import { createServer } from "node:http";
import { describe, expect, test } from "vitest";
import { dialHttp, listen, memoryChannelPair, receiveModel, streamModel } from "../src/index.js";
import { MiB, model, nowhere, serving, TYPE } from "./http-fixture.js";

describe("a URL", () => {
  /** The bytes of an artifact. */
  async function artifact(): Promise<Buffer> {
    const portions: Uint8Array[] = [];
    const [there, here] = memoryChannelPair();
    here.open({ bytes: (portion) => void portions.push(portion.slice()), end: () => {} });
    await streamModel(model, Object.assign(there, { direction: "send" }));
    return Buffer.concat(portions);
  }

  test.each([404, 405, 501, 400, 200, 303, 403])(
    "of a file server that answers POST with %d is fetched by a plain GET, and cannot be sent to",
    async (status) => {
      const bytes = await artifact();
      const url = await serving(
        createServer((incoming, response) => {
          // A redirection is one for POST alone: whoever follows it asks for what is elsewhere.
          if (incoming.method === "GET" || (status === 303 && incoming.method === "HEAD")) {
            return response.end(bytes);
          }
          response.writeHead(status, status === 303 ? { location: "/elsewhere" } : {}).end("no");
        }),
      );
      const summary = await receiveModel(`${url}/models/latest`, { to: nowhere }).done;
      expect(summary).toMatchObject({ confirmed: false, sourceBytes: 24 * MiB });
      await expect(streamModel(model, url)).rejects.toMatchObject({
        code: "CHANNEL_OPEN",
        retryable: status >= 500,
      });
    },
  );

  test("that ends in .twire is fetched without asking", async () => {
    const bytes = await artifact();
    const methods: string[] = [];
    const url = await serving(
      createServer((incoming, response) => {
        methods.push(incoming.method!);
        response.end(bytes);
      }),
    );
    await receiveModel(`${url}/m.twire?version=3`, { to: nowhere }).done;
    // No channel is offered, by POST: it is a file.
    expect(new Set(methods)).toEqual(new Set(["HEAD", "GET"]));
  });

  test("of a transfer elsewhere is not followed", async () => {
    const url = await serving(
      createServer((_, response) =>
        response.writeHead(201, { "content-type": TYPE, location: "http://127.0.0.1:1/?tensorwire=a" }).end(),
      ),
    );
    await expect(dialHttp(url)).rejects.toMatchObject({ code: "CHANNEL_OPEN" });
  });

  test("where nobody listens is CHANNEL_OPEN; a signal ends the wait", async () => {
    const silent = await serving(createServer(() => {}));
    const abort = new AbortController();
    const sending = streamModel(model, silent, { signal: abort.signal });
    setTimeout(() => abort.abort(new Error("enough")), 50);
    await expect(sending).rejects.toMatchObject({ code: "ABORTED" });
    const { url } = await listen({ url: "http://127.0.0.1:0" }).then(async (listener) => {
      await listener.close();
      return listener;
    });
    await expect(streamModel(model, url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: true });
  });
});
