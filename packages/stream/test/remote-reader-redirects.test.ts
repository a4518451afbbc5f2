import { describe, expect, test } from "vitest";
import type { RangeServer } from "./range-server.js";
import { MiB, open, ranges, readAll, serve } from "./remote-reader-fixture.js";

describe("a server that leads elsewhere", () => {
  async function redirecting(to: () => string, status = 302): Promise<RangeServer> {
    return serve(() => ({ status, headers: { location: to() }, body: new Uint8Array() }));
  }

  test("is followed, and what this side shows for who it is stays with its own origin", async () => {
    const place = await serve();
    for (const status of [301, 302, 303, 307, 308]) {
      const server = await redirecting(() => place.url, status);
      place.requests.length = 0;
      const reader = await open(server.url, { token: "secret", headers: { "x-key": "secret" } });
      await readAll(reader, ranges(MiB));
      for (const { headers } of server.requests) {
        expect(headers).toMatchObject({ authorization: "Bearer secret", "x-key": "secret" });
      }
      expect(place.requests.length).toBeGreaterThan(3);
      expect(JSON.stringify(place.requests)).not.toContain("secret");
      // It is asked once: the others go where the first was led to.
      expect(server.requests).toHaveLength(1);
    }
  });

  test("is asked again where the place was good for a while only", async () => {
    let good = "a";
    const place = await serve((answer, { url }) =>
      url === `/${good}` ? answer : { status: 403, headers: {}, body: new Uint8Array() },
    );
    const server = await redirecting(() => new URL(`/${good}`, place.url).href);
    const reader = await open(server.url);
    good = "b";
    await readAll(reader, ranges(MiB));
  });

  test("in circles, to clear text, to what is no web server: CHANNEL_OPEN", async () => {
    const server: RangeServer = await redirecting(() => server.url);
    await expect(open(server.url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
    const other = await redirecting(() => "ftp://example.org/m.twire");
    await expect(open(other.url)).rejects.toMatchObject({ code: "CHANNEL_OPEN", retryable: false });
  });
});
