import type { CodecBackend, EncodeJob } from "@tensorwire/core";
import { ordinary } from "@tensorwire/core/testing";
import { expect, it, vi } from "vitest";
import { loadNativeBackend } from "../src/index.js";
import { addonPath, describeNative } from "./instruction-sets.js";

const ELEMENTS = 1 << 20;
const UNTOUCHED = 0xa5;

describeNative("queued jobs", () => {
  const source = ordinary("F32", ELEMENTS, 1);

  function jobs(count: number, signal?: AbortSignal): EncodeJob[] {
    return Array.from({ length: count }, () => ({
      codec: { name: "normfloat4" },
      dtype: "F32",
      elements: ELEMENTS,
      source,
      target: new Uint8Array(ELEMENTS / 2 + ELEMENTS / 16).fill(UNTOUCHED),
      signal,
    }));
  }

  // Slow kernels, so that a queue is still there to be aborted.
  const backend = (): CodecBackend => loadNativeBackend({ isa: "scalar", addon: addonPath })!;

  it("that had not begun are taken out of the queue, and never write to their targets", async () => {
    const abort = new AbortController();
    const reason = new Error("enough");
    const all = jobs(96, abort.signal);
    const running = all.map((job) => backend().encode(job));
    const settled = Promise.allSettled(running);
    // With the first one done, however slow this machine is, most of the others have not begun.
    await Promise.race(running);
    abort.abort(reason);
    const results = await settled;
    const written = all.map(({ target }) => target[0] !== UNTOUCHED || target.at(-1) !== UNTOUCHED);
    for (const { target } of all) target.fill(UNTOUCHED);
    // Whatever had begun was let finish, but is no result any more.
    results.forEach((result, i) => {
      if (result.status === "fulfilled") expect(written[i]).toBe(true);
      else expect(result.reason).toMatchObject({ code: "ABORTED", cause: reason });
    });
    expect(written.filter((was) => !was).length).toBeGreaterThan(0);
    expect(results.filter(({ status }) => status === "fulfilled").length).toBeGreaterThan(0);
    await backend().hash(source);
    for (const { target } of all) expect(target.every((byte) => byte === UNTOUCHED)).toBe(true);
  });

  it("that had begun are let finish before they count as aborted", async () => {
    const abort = new AbortController();
    const [job] = jobs(1, abort.signal);
    const outcome = backend().encode(job!);
    // No result can be delivered while this thread is busy here.
    const deadline = Date.now() + 10_000;
    while (Atomics.load(job!.target, 0) === UNTOUCHED && Date.now() < deadline) {}
    abort.abort();
    await expect(outcome).rejects.toMatchObject({ code: "ABORTED" });
    const aborted = job!.target.slice();
    await backend().encode({ ...job!, signal: undefined });
    expect(aborted).toEqual(job!.target);
  });

  it("share one listener of their signal, and leave none behind", async () => {
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, "addEventListener");
    const removed = vi.spyOn(signal, "removeEventListener");
    await Promise.all(jobs(16, signal).map((job) => backend().encode(job)));
    expect(added).toHaveBeenCalledTimes(1);
    expect(removed).toHaveBeenCalledTimes(1);
    await backend().hash(source, signal);
    expect(removed).toHaveBeenCalledTimes(2);
  });

  it("are none where everything is to be done at once", () => {
    const alone = loadNativeBackend({ isa: "scalar", addon: addonPath, synchronous: true })!;
    const [job] = jobs(1);
    expect(alone.encode(job!)).toMatchObject({ bytes: job!.target.length });
    expect(alone.hash(source)).toBe(alone.hash(source.slice()));
  });

  it("leave the event loop free", async () => {
    let turns = 0;
    let done = false;
    const tick = () => {
      turns++;
      if (!done) setImmediate(tick);
    };
    setImmediate(tick);
    await Promise.all(jobs(8).map((job) => backend().encode(job)));
    done = true;
    expect(turns).toBeGreaterThan(20);
  });

  it("work on shared memory, and keep their buffers alive without anyone else", async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(source.length));
    shared.set(source);
    const expected = await backend().hash(source);
    expect(await backend().hash(shared)).toBe(expected);
    // Nobody but the job holds these; pressure makes the collector look.
    const hashes = Array.from({ length: 16 }, () => backend().hash(source.slice()));
    for (let i = 0; i < 20; i++) new Uint8Array(8 << 20).fill(i);
    for (const hash of await Promise.all(hashes)) expect(hash).toBe(expected);
  });
});
