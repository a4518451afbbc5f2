import { type ChildProcess, spawn } from "node:child_process";
import { open, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { byteLength, type DType, elementCount } from "@tensorwire/core";

/** The command as users run it, on what was built. */
export const COMMAND = fileURLToPath(new URL("../bin/tensorwire.js", import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A `tensorwire` process. */
export class CliProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  #stdout = "";
  #stderr = "";
  #onStderr = new Set<() => void>();

  /** @param script Another program than the command. */
  constructor(args: readonly string[], env: NodeJS.ProcessEnv = {}, script = COMMAND) {
    this.child = spawn(process.execPath, [script, ...args], { env: { ...process.env, ...env } });
    this.child.stdout!.on("data", (data) => void (this.#stdout += data));
    this.child.stderr!.on("data", (data) => {
      this.#stderr += data;
      for (const look of this.#onStderr) look();
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code, signal) => {
        for (const look of this.#onStderr) look();
        resolve({ code, signal, stdout: this.#stdout, stderr: this.#stderr });
      });
    });
    this.child.stdin!.on("error", () => {});
  }

  /** The first match on stderr, as soon as it is there. */
  async saw(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(this.#stderr);
        if (match) resolve(match);
        else if (this.child.exitCode !== null || this.child.signalCode !== null) {
          reject(new Error(`ended with ${this.child.exitCode} before ${pattern}: ${this.#stderr}`));
        } else return;
        this.#onStderr.delete(look);
      };
      this.#onStderr.add(look);
      look();
    });
  }

  /** Where it listens. */
  async url(): Promise<string> {
    return (await this.saw(/listening on (\S+)\n/))[1]!;
  }
}

/** Runs the command to its end. */
export function run(...args: string[]): Promise<Ended> {
  const command = new CliProcess(args);
  command.child.stdin!.end();
  return command.ended;
}

/** The object that `--json` prints, which is the last line of stdout. */
// biome-ignore lint/suspicious/noExplicitAny: its shape is what the tests are about
export function json({ stdout }: Ended): Record<string, any> {
  return JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
}

export interface MadeTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Writes a safetensors file of pseudo-random values, floats between -1 and 1; returns each tensor's bytes. */
export async function makeModel(
  path: string,
  tensors: readonly MadeTensor[],
): Promise<Map<string, Uint8Array>> {
  const data = new Map<string, Uint8Array>();
  const header: Record<string, unknown> = { __metadata__: { origin: "a test" } };
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    const bytes =
      dtype === "F32" ? floats(elementCount(shape), offset) : noise(byteLength(dtype, elementCount(shape)));
    data.set(name, bytes);
    header[name] = { dtype, shape, data_offsets: [offset, offset + bytes.length] };
    offset += bytes.length;
  }
  await writeFile(path, Buffer.concat([headerBytes(header), ...data.values()]));
  return data;
}

/** A model of zeros that takes no room on the disk, for transfers that last. */
export async function makeSparseModel(path: string, bytes: number): Promise<void> {
  const header = headerBytes({ zeros: { dtype: "F32", shape: [bytes / 4], data_offsets: [0, bytes] } });
  const file = await open(path, "w");
  await file.write(header);
  await file.truncate(header.length + bytes);
  await file.close();
}

function headerBytes(header: Record<string, unknown>): Buffer {
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text]);
}

function floats(count: number, seed: number): Uint8Array {
  const values = Float32Array.from({ length: count }, (_, i) => Math.sin((i + 1) * 12.9898 + seed));
  return new Uint8Array(values.buffer);
}

function noise(count: number): Uint8Array {
  return Uint8Array.from({ length: count }, (_, i) => (i * 167 + 13) & 0xff);
}
