import { describe, expect, it, vi } from "vitest";
import { CodecRegistry, none, PortableBackend } from "../src/index.js";
import { backendSuite } from "../src/testing/index.js";

backendSuite("portable", () => new PortableBackend());

describe("PortableBackend", () => {
  it("lets the event loop turn between the jobs of a queue", async () => {
    const backend = new PortableBackend();
    const source = new Uint8Array(1 << 20);
    let done = 0;
    let turns = 0;
    const jobs = Array.from({ length: 30 }, async () => {
      await backend.hash(source);
      done++;
    });
    const tick = () => {
      turns++;
      if (done < jobs.length) setImmediate(tick);
    };
    setImmediate(tick);
    await Promise.all(jobs);
    expect(turns).toBeGreaterThanOrEqual(jobs.length - 1);
  });

  it("gives up a queued job as soon as its signal aborts", async () => {
    const backend = new PortableBackend();
    const before = backend.hash(new Uint8Array(1 << 20));
    const abort = new AbortController();
    let settled = false;
    const queued = Promise.resolve(backend.hash(new Uint8Array(1 << 20), abort.signal)).finally(() => {
      settled = true;
    });
    const reason = new Error("enough");
    abort.abort(reason);
    await expect(queued).rejects.toMatchObject({ code: "ABORTED", cause: reason });
    expect(settled).toBe(true);
    await before;
  });

  it("goes on after a job that failed", async () => {
    const backend = new PortableBackend(new CodecRegistry([none]));
    const job = { dtype: "F32", elements: 1, source: new Uint8Array(4), target: new Uint8Array(4) } as const;
    const failed = backend.encode({ ...job, codec: { name: "float16" } });
    const next = backend.encode({ ...job, codec: { name: "none" } });
    await expect(failed).rejects.toMatchObject({ code: "CODEC_UNSUPPORTED" });
    expect(await next).toMatchObject({ bytes: 4 });
  });

  it("listens once to a signal that many jobs share, and not for longer than they wait", async () => {
    const backend = new PortableBackend();
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    const large = new Uint8Array(1 << 15);
    await Promise.all(Array.from({ length: 20 }, () => backend.hash(large, signal)));
    expect(added).toHaveBeenCalledTimes(1);
    expect(removed).toHaveBeenCalledTimes(1);
    await backend.hash(large, signal);
    expect(removed).toHaveBeenCalledTimes(2);
  });
});
