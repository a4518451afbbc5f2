import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Lock } from "../src/sink/lock.js";
import { cleanup, failure, folder, listing } from "./sink-fixture.js";

const built = new URL("../dist/index.js", import.meta.url);

/** Large enough to be written at once, and not to wait for what adjoins it. */
const UNFINISHED = Buffer.alloc(2 ** 20, "unfinished ").toString();

const startOf = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ")[19]!;

function ownedBy(owner: { pid: number; host?: string; started?: string | null }): string {
  return JSON.stringify({ host: hostname(), started: null, token: "theirs", ...owner });
}

const exited = (child: ChildProcess): Promise<unknown> =>
  new Promise((resolve) => child.once("exit", resolve));

/** A process that runs, and does nothing. */
function sleeper(): ChildProcess & { pid: number } {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  cleanup(() => child.kill("SIGKILL"));
  return child as ChildProcess & { pid: number };
}

/** A pid that nobody has: of a process that has ended. */
async function deadPid(): Promise<number> {
  const child = spawn("true", { stdio: "ignore" });
  await exited(child);
  return child.pid!;
}

/** A process that opens a part file, says how that went, and keeps it until it is killed. */
function receiver(path: string): { child: ChildProcess; said: Promise<string> } {
  const program = `
    const { rawFileSink } = await import(${JSON.stringify(built.href)});
    const bytes = Buffer.alloc(${UNFINISHED.length}, "unfinished ");
    const sink = rawFileSink(${JSON.stringify(path)}, { resume: false });
    const said = await sink.open({ manifest: { kind: "raw" }, plan: { bytes: bytes.length } }).then(
      () => Promise.resolve(sink.write({ offset: 0 }, bytes)).then(() => "open"),
      (error) => error.code + " " + error.message);
    process.stdout.write(said + "\\n");
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanup(() => child.kill("SIGKILL"));
  let words = "";
  const said = new Promise<string>((resolve) => {
    child.stdout!.on("data", (data) => {
      words += data;
      if (words.endsWith("\n")) resolve(words.trim());
    });
    child.once("exit", () => resolve(words));
  });
  return { child, said };
}

describe("a lock", () => {
  test("says who holds it, and goes with its release", async () => {
    const path = join(folder(), "lock");
    const lock = await Lock.take(path, "model");
    expect(lock.inherited).toBe(false);
    const owner = JSON.parse(readFileSync(path, "utf8"));
    expect(owner).toMatchObject({ pid: process.pid, host: hostname(), started: startOf(process.pid) });
    expect((await failure(Lock.take(path, "model"))).code).toBe("TARGET_BUSY");
    await lock.release();
    expect(existsSync(path)).toBe(false);
    await lock.release();
  });

  test("is not released by whoever lost it", async () => {
    const path = join(folder(), "lock");
    const lock = await Lock.take(path, "model");
    writeFileSync(path, ownedBy({ pid: 1 }));
    await lock.release();
    expect(readFileSync(path, "utf8")).toBe(ownedBy({ pid: 1 }));
  });

  test("of a process that runs is TARGET_BUSY; it is taken over once the process is gone", async () => {
    const at = folder();
    const path = join(at, "lock");
    const child = sleeper();
    writeFileSync(path, ownedBy({ pid: child.pid, started: startOf(child.pid) }));
    const error = await failure(Lock.take(path, "/models/one"));
    expect(error.code).toBe("TARGET_BUSY");
    expect(error.message).toContain(`process ${child.pid} is writing "/models/one"`);
    child.kill("SIGKILL");
    await exited(child);
    const lock = await Lock.take(path, "/models/one");
    expect(lock.inherited).toBe(true);
    await lock.release();
    expect(listing(at)).toEqual([]);
  });

  test("of a process whose pid another one has now is taken over", async () => {
    const path = join(folder(), "lock");
    const child = sleeper();
    for (const pid of [child.pid, process.pid]) {
      writeFileSync(path, ownedBy({ pid, started: "12345" }));
      await (await Lock.take(path, "model")).release();
    }
  });

  test("without a start is believed as long as its pid is taken", async () => {
    const path = join(folder(), "lock");
    writeFileSync(path, ownedBy({ pid: sleeper().pid }));
    expect((await failure(Lock.take(path, "model"))).code).toBe("TARGET_BUSY");
    writeFileSync(path, ownedBy({ pid: await deadPid() }));
    await (await Lock.take(path, "model")).release();
  });

  test("of another host is believed, and the message says what to remove", async () => {
    const path = join(folder(), "lock");
    writeFileSync(path, ownedBy({ pid: await deadPid(), host: "elsewhere" }));
    const error = await failure(Lock.take(path, "model"));
    expect(error.code).toBe("TARGET_BUSY");
    expect(error.message).toContain(`on host "elsewhere"`);
    expect(error.message).toContain(`remove "${path}"`);
  });

  test.each([
    ["empty", ""],
    ["half written", '{"pid":12'],
    ["of no process", '{"pid":-1,"host":"x"}'],
    ["of something else", "null"],
  ])("that is %s is believed while it is fresh, and then taken over", async (_, text) => {
    const path = join(folder(), "lock");
    writeFileSync(path, text);
    expect((await failure(Lock.take(path, "model"))).code).toBe("TARGET_BUSY");
    const old = Date.now() / 1000 - 60;
    utimesSync(path, old, old);
    const lock = await Lock.take(path, "model");
    expect(lock.inherited).toBe(true);
    await lock.release();
  });

  test("that is a link is neither followed nor believed for long", async () => {
    const at = folder();
    const path = join(at, "lock");
    symlinkSync(join(at, "victim"), path);
    expect((await failure(Lock.take(path, "model"))).code).toBe("TARGET_BUSY");
    expect(listing(at)).toEqual(["lock"]);
  });

  test("of a process that died while taking over another's is taken over too", async () => {
    const at = folder();
    const path = join(at, "lock");
    const dead = await deadPid();
    writeFileSync(path, ownedBy({ pid: dead }));
    writeFileSync(`${path}.guard`, ownedBy({ pid: dead }));
    await (await Lock.take(path, "model")).release();
    expect(listing(at)).toEqual([]);
  });

  test("that is taken over goes to exactly one of many", async () => {
    const at = folder();
    const path = join(at, "lock");
    const dead = await deadPid();
    for (let round = 0; round < 20; round++) {
      writeFileSync(path, ownedBy({ pid: dead }));
      const taken = await Promise.allSettled(Array.from({ length: 12 }, () => Lock.take(path, "model")));
      const locks = taken.filter((result) => result.status === "fulfilled");
      expect(locks.length).toBe(1);
      for (const result of taken)
        if (result.status === "rejected") expect(result.reason.code).toBe("TARGET_BUSY");
      await locks[0]!.value.release();
      expect(listing(at)).toEqual([]);
    }
  });
});

const needsBuild = (): boolean => {
  if (existsSync(built)) return false;
  console.log("SKIPPED: needs npm run build");
  return true;
};

describe("processes", () => {
  test("keep off each other's file, and inherit it from one that was killed", async () => {
    if (needsBuild()) return;
    const at = folder();
    const path = join(at, "model");
    const first = receiver(path);
    expect(await first.said).toBe("open");
    const second = receiver(path);
    expect(await second.said).toContain(`TARGET_BUSY process ${first.child.pid} is writing "${path}"`);
    first.child.kill("SIGKILL");
    await exited(first.child);
    expect(listing(at)).toEqual(["model.part", "model.part.lock"]);
    const third = receiver(path);
    expect(await third.said).toBe("open");
    expect(readFileSync(`${path}.part`, "utf8")).toBe(UNFINISHED);
  });

  test("race for a dead one's file, and one gets it", async () => {
    if (needsBuild()) return;
    const at = folder();
    const path = join(at, "model");
    writeFileSync(`${path}.part`, "of the dead");
    writeFileSync(`${path}.part.lock`, ownedBy({ pid: await deadPid() }));
    const said = await Promise.all(Array.from({ length: 6 }, () => receiver(path).said));
    expect(said.filter((words) => words === "open").length).toBe(1);
    expect(said.filter((words) => words.startsWith("TARGET_BUSY")).length).toBe(5);
    expect(listing(at)).toEqual(["model.part", "model.part.lock"]);
  });
});
