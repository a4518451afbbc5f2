import { execFile } from "node:child_process";
import { access, mkdir, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The newest when this was written, and an older one, whose times differ. */
export const RELEASES = ["2.9.0", "2.7.2"] as const;

/** What its cells, streamers and downloaders import; the rest of what it asks for is its servers and dashboards. */
const PACKAGES = ["numpy", "msgpack", "psutil", "cryptography", "grpcio", "PyYAML", "requests", "pydantic"];

/** Beside the sources, which are not moved when they are compiled: a program in Python stays where it is. */
export const END_PROGRAM = fileURLToPath(new URL("../../../src/benchmark/nvflare/end.py", import.meta.url));

const MINUTES_5 = 300_000;

/** Why there is no NVFlare here: in words for a page, which name no path and no registry. */
export class NoNvflare extends Error {}

/**
 * A Python with that release of NVFlare: in a virtual environment in the user's cache, made at the first call, and used by the next.
 * @throws NoNvflare
 */
export async function nvflarePython(
  release: string,
  log: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const folder = join(cache, "tensorwire-benchmark", `nvflare-${release}`);
  const python = join(folder, "bin", "python");
  const complete = join(folder, "complete");
  if (await exists(complete)) return python;
  log(`installing NVFlare ${release}, once`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const step = async (reason: string, program: string, args: readonly string[]): Promise<void> => {
    try {
      await run(program, args, { signal, timeout: MINUTES_5 });
    } catch (error) {
      if (signal.aborted) throw error;
      log(String((error as { stderr?: string }).stderr || error).trim());
      throw new NoNvflare(reason);
    }
  };
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  const noNetwork = "pip could not install it; is there a network?";
  await step("it needs Python 3.10 or later with venv", "python3", ["-m", "venv", folder]);
  await step(noNetwork, python, [...pip, "--no-deps", `nvflare==${release}`]);
  await step(noNetwork, python, [...pip, ...PACKAGES]);
  await writeFile(complete, "");
  return python;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
