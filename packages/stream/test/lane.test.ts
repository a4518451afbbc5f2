import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Deferred, deferred } from "../src/session/deferred.js";
import { Lane } from "../src/session/lane.js";

/** Lets everything run that waits for nothing else. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Whether a promise has settled by now, and how. */
async function state(promise: Promise<unknown>): Promise<"pending" | "fulfilled" | "rejected"> {
  const settled = promise.then(
    () => "fulfilled" as const,
    () => "rejected" as const,
  );
  return Promise.race([settled, turn().then(() => "pending" as const)]);
}

function filled(values: readonly number[], bytes = 1): Lane<number> {
  const lane = new Lane<number>(Number.POSITIVE_INFINITY);
  for (const value of values) lane.put(bytes, Promise.resolve(value));
  return lane;
}

/** A job that ends after some turns of the event loop; a negative number of them fails it. */
async function job(value: number, turns: number): Promise<number> {
  for (let i = 0; i < Math.abs(turns); i++) await turn();
  if (turns < 0) throw new Error(`job ${value}`);
  return value;
}

describe("Lane", () => {
  it("gives values in the order of the jobs, whichever ends first, and keeps to its bounds", async () => {
    const steps = fc.array(fc.record({ bytes: fc.nat(50), turns: fc.nat(3), now: fc.boolean() }), {
      maxLength: 60,
    });
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 6 }),
        async (jobs, maxBytes, maxItems) => {
          const lane = new Lane<number>(maxBytes, maxItems);
          let held = 0;
          let items = 0;
          const write = async (): Promise<void> => {
            for (const [value, { bytes, turns, now }] of jobs.entries()) {
              await lane.room(bytes);
              expect(lane.fits(bytes)).toBe(true);
              expect(items === 0 || (held + bytes <= maxBytes && items < maxItems)).toBe(true);
              held += bytes;
              items++;
              lane.put(bytes, now ? value : job(value, turns));
            }
            lane.close();
          };
          const read = async (): Promise<number[]> => {
            const values: number[] = [];
            for (;;) {
              const value = lane.take() ?? (await lane.next());
              if (value === undefined) return values;
              values.push(value);
              held -= jobs[value]!.bytes;
              items--;
            }
          };
          const [values] = await Promise.all([read(), write()]);
          expect(values).toEqual(jobs.map((_, i) => i));
          expect(lane.empty).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("keeps the order over thousands of jobs", async () => {
    const values = Array.from({ length: 10_000 }, (_, i) => i);
    const lane = filled(values);
    const read: number[] = [];
    for (let i = 0; i < 9_000; i++) read.push((await lane.next())!);
    for (const value of [10_000, 10_001]) lane.put(1, value);
    lane.close();
    for (let value = await lane.next(); value !== undefined; value = await lane.next()) read.push(value);
    expect(read).toEqual([...values, 10_000, 10_001]);
  });

  it("makes a writer wait for bytes, and for items", async () => {
    const lane = new Lane<number>(10, 3);
    lane.put(6, Promise.resolve(1));
    expect([lane.fits(4), lane.fits(5)]).toEqual([true, false]);
    const room = lane.room(5);
    expect(await state(room)).toBe("pending");
    lane.put(4, Promise.resolve(2));
    await lane.next();
    expect(await state(room)).toBe("fulfilled");
    lane.put(0, Promise.resolve(3));
    lane.put(0, Promise.resolve(4));
    // Three items, of four bytes.
    expect(lane.fits(0)).toBe(false);
    await lane.next();
    expect(lane.fits(0)).toBe(true);
  });

  it("lets a job that is too large enter when it is empty, and nothing beside it", async () => {
    const lane = new Lane<number>(10);
    expect(await state(lane.room(1000))).toBe("fulfilled");
    lane.put(1000, Promise.resolve(1));
    const room = lane.room(0);
    expect(await state(room)).toBe("pending");
    await lane.next();
    expect(await state(room)).toBe("fulfilled");
  });

  it("counts a job that the reader waits for as held", async () => {
    const lane = new Lane<number>(10);
    const slow = deferred<number>();
    lane.put(10, slow.promise);
    const next = lane.next();
    expect(await state(lane.room(1))).toBe("pending");
    expect(lane.empty).toBe(false);
    slow.resolve(7);
    expect(await next).toBe(7);
    expect(lane.fits(1)).toBe(true);
  });

  it("makes a reader wait for a job, and ends after the last one", async () => {
    const lane = new Lane<number>(10);
    const next = lane.next();
    expect(await state(next)).toBe("pending");
    lane.put(1, Promise.resolve(1));
    expect(await next).toBe(1);
    const last = lane.next();
    expect(await state(last)).toBe("pending");
    lane.close();
    expect(await last).toBeUndefined();
    expect(await lane.next()).toBeUndefined();
  });

  it("gives what was put before it was closed", async () => {
    const lane = filled([1, 2]);
    lane.close();
    expect([await lane.next(), await lane.next(), await lane.next()]).toEqual([1, 2, undefined]);
  });

  it("hands out at once what is no promise, in turn", async () => {
    const lane = new Lane<number>(10);
    expect(lane.take()).toBeUndefined();
    lane.put(5, 1);
    lane.put(5, Promise.resolve(2));
    lane.put(0, 3);
    expect(lane.take()).toBe(1);
    expect(lane.fits(5)).toBe(true);
    // The second is not there yet, and the third has to wait for it.
    expect(lane.take()).toBeUndefined();
    expect(await lane.next()).toBe(2);
    expect(lane.take()).toBe(3);
    expect(lane.empty).toBe(true);
  });

  it("rejects as a job does, when its turn comes, and leaves nothing unhandled before", async () => {
    const lane = new Lane<number>(10);
    lane.put(1, job(1, 2));
    lane.put(1, Promise.reject(new Error("job 2")));
    lane.put(1, Promise.resolve(3));
    await turn();
    expect(await lane.next()).toBe(1);
    await expect(lane.next()).rejects.toThrow("job 2");
    // It stays the first: what follows a failed job is for nobody to read.
    await expect(lane.next()).rejects.toThrow("job 2");
    const disposed: number[] = [];
    await lane.drain((value) => disposed.push(value));
    expect(disposed).toEqual([3]);
  });
});

describe("a lane that fails", () => {
  it("tells the writer who waits, and every later one", async () => {
    const lane = filled([1], 10);
    const full = new Lane<number>(10);
    full.put(10, Promise.resolve(1));
    const room = full.room(1);
    full.fail(new Error("first"));
    full.fail(new Error("second"));
    await expect(room).rejects.toThrow("first");
    await expect(full.room(0)).rejects.toThrow("first");
    lane.fail(new Error("other"));
    await expect(lane.room(1)).rejects.toThrow("other");
  });

  it("tells the reader who waits for a job to be put", async () => {
    const lane = new Lane<number>(10);
    const next = lane.next();
    lane.fail(new Error("stop"));
    await expect(next).rejects.toThrow("stop");
    await expect(lane.next()).rejects.toThrow("stop");
    expect(() => lane.take()).toThrow("stop");
  });

  it("tells the reader though there are values, and though it is closed", async () => {
    const lane = filled([1, 2]);
    lane.put(0, 3);
    lane.close();
    lane.fail(new Error("stop"));
    await expect(lane.next()).rejects.toThrow("stop");
    expect(() => lane.take()).toThrow("stop");
    const disposed: number[] = [];
    await lane.drain((value) => disposed.push(value));
    expect(disposed).toEqual([1, 2, 3]);
  });

  it("leaves the job that the reader waits for to whoever drains it", async () => {
    const lane = new Lane<number>(10);
    const slow = deferred<number>();
    lane.put(1, slow.promise);
    const next = lane.next();
    await turn();
    lane.fail(new Error("stop"));
    const disposed: number[] = [];
    const drained = lane.drain((value) => disposed.push(value));
    expect(await state(drained)).toBe("pending");
    slow.resolve(5);
    await expect(next).rejects.toThrow("stop");
    await drained;
    expect(disposed).toEqual([5]);
  });

  it("fails with anything, even with nothing", async () => {
    const lane = new Lane<number>(10);
    lane.fail(undefined);
    await expect(lane.next()).rejects.toBeUndefined();
  });

  it("gives every value either to the reader or to the drain, and once", async () => {
    const jobs = fc.array(fc.record({ bytes: fc.nat(20), turns: fc.integer({ min: -3, max: 4 }) }), {
      maxLength: 30,
    });
    await fc.assert(
      fc.asyncProperty(jobs, fc.nat(25), async (todo, failAfter) => {
        const lane = new Lane<number>(40, 5);
        const made: number[] = [];
        const came: number[] = [];
        const write = async (): Promise<void> => {
          for (const [value, { bytes, turns }] of todo.entries()) {
            await lane.room(bytes);
            if (turns >= 0) made.push(value);
            lane.put(bytes, job(value, turns));
          }
          lane.close();
        };
        const read = async (): Promise<void> => {
          for (let value = await lane.next(); value !== undefined; value = await lane.next())
            came.push(value);
        };
        const failing = (error: unknown): void => lane.fail(error);
        const work = [write().catch(failing), read().catch(failing)];
        for (let i = 0; i < failAfter; i++) await turn();
        lane.fail(new Error("stop"));
        await Promise.all(work);
        await lane.drain((value) => came.push(value));
        expect(came).toEqual(made);
        expect(lane.empty).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe("draining a lane", () => {
  it("waits for the jobs that are not done, and disposes of them in order", async () => {
    const lane = new Lane<number>(Number.POSITIVE_INFINITY);
    const jobs = Array.from({ length: 4 }, (): Deferred<number> => deferred<number>());
    for (const { promise } of jobs) lane.put(1, promise);
    lane.put(1, 4);
    lane.fail(new Error("stop"));
    const disposed: number[] = [];
    const drained = lane.drain((value) => disposed.push(value));
    jobs[2]!.resolve(2);
    jobs[1]!.reject(new Error("job 1"));
    expect(await state(drained)).toBe("pending");
    jobs[0]!.resolve(0);
    expect(await state(drained)).toBe("pending");
    expect(disposed).toEqual([0, 2]);
    jobs[3]!.resolve(3);
    await drained;
    expect(disposed).toEqual([0, 2, 3, 4]);
    expect(lane.empty).toBe(true);
  });

  it("takes what is put meanwhile, too", async () => {
    const lane = filled([1]);
    lane.fail(new Error("stop"));
    const disposed: number[] = [];
    const drained = lane.drain((value) => disposed.push(value));
    lane.put(1, Promise.resolve(2));
    await drained;
    expect(disposed).toEqual([1, 2]);
  });

  it("of an empty lane is nothing", async () => {
    await new Lane<number>(1).drain(() => {
      throw new Error("there is nothing");
    });
  });
});
