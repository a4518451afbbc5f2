import { quote, TensorwireError } from "../errors.js";
import { fileNameFault } from "../file-name.js";
import { JsonReader } from "../json-reader.js";
import { type TensorInfo, tensorBytes } from "../tensor.js";

const LONE_SURROGATE = /\p{Surrogate}/u;

/** What a `*.index.json` says: which file of a sharded model holds which tensor. */
export interface ShardIndex {
  /** The shards' names, each once, sorted: plain file names in the index's own folder. */
  readonly files: readonly string[];
  /** File of each tensor, in the order of the index. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** `metadata` as it stands, usually with `total_size`; empty where the index has none. Nothing in it is checked. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

/**
 * Parses a shard index. That the files hold these tensors is for the caller to check.
 * @throws TensorwireError `SOURCE_INVALID`.
 */
export function parseShardIndex(text: string): ShardIndex {
  const json = new JsonReader(text, "shard index");
  let weightMap: Map<string, string> | undefined;
  let metadata: unknown = {};
  json.object((key) => {
    if (key === "weight_map") weightMap = readWeightMap(json);
    else if (key === "metadata") metadata = json.value();
    else json.skip();
  });
  json.end();
  if (weightMap === undefined) throw json.fault("has no weight_map");
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
    throw json.fault("its metadata is not an object");
  }
  const files = [...new Set(weightMap.values())].sort();
  return { files, weightMap, metadata: metadata as Record<string, unknown> };
}

function readWeightMap(json: JsonReader): Map<string, string> {
  const weightMap = new Map<string, string>();
  const known = new Set<string>();
  json.object((name) => {
    json.tensor = name;
    const file = json.string();
    if (!known.has(file)) {
      const fault = fileNameFault(file);
      if (fault !== undefined) throw json.fault(`file name ${quote(file)} in the shard index ${fault}`);
      known.add(file);
    }
    weightMap.set(name, file);
    json.tensor = undefined;
  }, "tensors");
  return weightMap;
}

/**
 * Writes a shard index in the form of Hugging Face's.
 * @param metadata At least `total_size`, the bytes of all tensors' data, is customary.
 * @throws TensorwireError `INVALID_ARGUMENT`.
 */
export function serializeShardIndex(
  weightMap: Iterable<readonly [tensor: string, file: string]>,
  metadata: Readonly<Record<string, unknown>>,
): string {
  const names = new Set<string>();
  const members: string[] = [];
  for (const [name, file] of weightMap) {
    if (names.has(name)) throw refusal("appears twice", name);
    if (LONE_SURROGATE.test(name)) {
      throw refusal("its name holds half a surrogate pair, which is not Unicode", name);
    }
    checkFileName(file, name);
    names.add(name);
    // Written by hand: an object would move integer-like names to the front and lose `__proto__`.
    members.push(`    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  }
  const head = JSON.stringify(metadata, null, 2).replaceAll("\n", "\n  ");
  const map = members.length === 0 ? "{}" : `{\n${members.join(",\n")}\n  }`;
  return `{\n  "metadata": ${head},\n  "weight_map": ${map}\n}\n`;
}

/**
 * Divides tensors, in their order, into shards of at most `maxShardBytes` of data each (headers come on top). A tensor is never
 * divided; one over the limit has a shard to itself. Each shard is a run of the given order, so that shards can be written one
 * after the other; `huggingface_hub`, which sets oversized tensors aside, may need one shard fewer.
 * @throws TensorwireError `INVALID_ARGUMENT`.
 * @example
 * const infos = ["a", "b", "c"].map((name) => ({ name, dtype: "F32", shape: [256] }) as const);
 * const shards = planShards(infos, 2048);
 * const files = shards.map((_, i) => shardFileName("model", i, shards.length));
 * console.log(files.join(" ")); // model-00001-of-00002.safetensors model-00002-of-00002.safetensors
 * const index = serializeShardIndex(shards.flatMap((shard, i) => shard.map(({ name }) => [name, files[i]!] as const)), {});
 * console.log(parseShardIndex(index).weightMap.get("c")); // model-00002-of-00002.safetensors
 */
export function planShards(infos: readonly TensorInfo[], maxShardBytes: number): TensorInfo[][] {
  if (!(maxShardBytes >= 1)) {
    throw refusal(`maxShardBytes must be a positive number, not ${maxShardBytes}`);
  }
  const shards: TensorInfo[][] = [];
  let room = 0;
  for (const info of infos) {
    const bytes = tensorBytes(info);
    const shard = shards.at(-1);
    if (shard !== undefined && bytes <= room) {
      shard.push(info);
      room -= bytes;
    } else {
      shards.push([info]);
      room = maxShardBytes - bytes;
    }
  }
  return shards;
}

/** `model-00001-of-00005.safetensors` for stem `model`, index 0 of 5. @throws TensorwireError `INVALID_ARGUMENT`. */
export function shardFileName(stem: string, index: number, count: number): string {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(count) || index < 0 || index >= count) {
    throw refusal(`there is no shard ${index} of ${count}: the first of n is 0, the last n - 1`);
  }
  const pad = (value: number) => String(value).padStart(5, "0");
  const name = `${stem}-${pad(index + 1)}-of-${pad(count)}.safetensors`;
  checkFileName(name);
  return name;
}

function checkFileName(file: string, tensor?: string): void {
  const fault = fileNameFault(file);
  if (fault !== undefined) throw refusal(`file name ${quote(file)} ${fault}`, tensor);
  if (LONE_SURROGATE.test(file)) throw refusal(`file name ${quote(file)} is not Unicode`, tensor);
}

function refusal(message: string, tensor?: string): TensorwireError {
  return new TensorwireError("INVALID_ARGUMENT", message, { tensor });
}
