import { beforeAll, describe, expect, test } from "vitest";
import { listen, streamModel } from "../src/index.js";
import { type Authority, hasOpenssl, makeAuthority } from "./certificates.js";
import { doorkeeper, listening, model, receiving, TOKEN } from "./door-fixture.js";

describe.runIf(hasOpenssl)("with TLS", () => {
  let authority: Authority;
  beforeAll(() => {
    authority = makeAuthority();
  });

  test("a listener with authorize may stand beyond loopback, and in clear text may not", async () => {
    const { authorize } = doorkeeper();
    const { ca, server } = authority;
    for (const scheme of ["wss", "tls", "https"]) {
      const listener = await listening({ url: `${scheme}://0.0.0.0:0`, tls: server, authorize });
      const done = receiving(listener);
      const url = listener.url.replace("0.0.0.0", "127.0.0.1");
      await expect(streamModel(model, url, { dial: { tls: { ca } } })).rejects.toMatchObject({
        code: "UNAUTHORIZED",
      });
      await streamModel(model, url, { dial: { tls: { ca }, token: TOKEN } });
      await done;
    }
    for (const scheme of ["ws", "tcp", "http"]) {
      const clear = listen({ url: `${scheme}://0.0.0.0:0`, authorize });
      await expect(clear).rejects.toMatchObject({
        code: "INVALID_ARGUMENT",
        message: expect.stringContaining("clear text"),
      });
      await listening({ url: `${scheme}://0.0.0.0:0`, authorize, insecure: true });
    }
  });

  test("authorize is told the subject of the certificate that was verified, and of no other", async () => {
    const { ca, server, client } = authority;
    for (const scheme of ["wss", "tls", "https"]) {
      const subjects: unknown[] = [];
      const listener = await listening({
        url: `${scheme}://127.0.0.1:0`,
        // Whoever has none may come too, and one that nobody vouches for is none.
        tls: { ...server, ca, rejectUnauthorized: false },
        authorize: (_credential, { subject }) => {
          subjects.push(subject);
          return subject === "CN=client" ? { name: subject } : undefined;
        },
      });
      const done = receiving(listener);
      const stranger = makeAuthority().client;
      for (const tls of [{ ca }, { ca, ...stranger }]) {
        const sent = streamModel(model, listener.url, { dial: { tls } });
        await expect(sent, scheme).rejects.toMatchObject({ code: "UNAUTHORIZED" });
      }
      await streamModel(model, listener.url, { dial: { tls: { ca, ...client } } });
      await done;
      expect(subjects, scheme).toEqual([undefined, undefined, "CN=client"]);
    }
  });
});
