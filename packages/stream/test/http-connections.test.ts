import { describe, expect, test } from "vitest";
import { dialHttp, listen, receiveModel, streamModel } from "../src/index.js";
import { closers, listening, MiB, model, mounted, nowhere } from "./http-fixture.js";
import { Relay } from "./relay.js";

describe("a channel", () => {
  test.each(["pushed", "pulled"])("outlives its connections: a model is %s while they break", async (way) => {
    const listener = await listening("http://127.0.0.1:0");
    const relay = await Relay.to(listener.url);
    closers.push(() => relay.die());
    relay.cutting = { way: way === "pushed" ? "toServer" : "toClient", everyBytes: 1.3 * MiB };
    const url = `http://127.0.0.1:${relay.port}`;
    const [to, from] = way === "pushed" ? [url, listener] : [listener, url];
    const received = receiveModel(from, { to: nowhere }).done;
    const sent = await streamModel(model, to);
    expect((await received).digest).toBe(sent.digest);
    expect(relay.cuts).toBeGreaterThan(10);
  });

  test("outlives a server that closes its idle connections as fast as it can", async () => {
    const { url, channels, server } = await mounted();
    server.keepAliveTimeout = 1;
    const client = await dialHttp(url);
    let heard = "";
    let expected = "";
    channels[0]!.open({ bytes: (portion) => void (heard += Buffer.from(portion).toString()), end: () => {} });
    client.open({ bytes: () => {}, end: () => {} });
    closers.push(() => client.close(new Error("the test is over")));
    for (let i = 0; i < 100; i++) {
      const text = `${i} `;
      expected += text;
      await client.send([Buffer.from(text)]);
      await new Promise((resolve) => setTimeout(resolve, i % 5));
    }
    while (heard.length < expected.length) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(heard).toBe(expected);
  });

  test("of a listener that was closed goes on to its end, and then the place is free", async () => {
    const listener = await listening("http://127.0.0.1:0");
    const received = receiveModel(listener, { to: nowhere });
    const sending = streamModel(model, listener.url);
    await received.manifest;
    await listener.close();
    await expect(dialHttp(listener.url)).rejects.toMatchObject({ code: "SERVER_BUSY" });
    expect((await received.done).digest).toBe((await sending).digest);
    for (;;) {
      const again = await listen({ url: listener.url }).catch(() => undefined);
      if (again) return again.close();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
});
