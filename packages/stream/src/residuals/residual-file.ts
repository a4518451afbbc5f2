import { lstat } from "node:fs/promises";
import {
  type Chunk,
  codecPlanDigest,
  formatDigest,
  isFloatDType,
  type Limits,
  type Manifest,
  quote,
  type SafetensorsHeader,
  sameInfo,
  serializeSafetensorsHeader,
  SAFETENSORS_PREFIX_BYTES,
  type TensorInfo,
  TensorwireError,
} from "@tensorwire/core";
import { isExact } from "../session/exact.js";
import { PartFile } from "../sink/part-file.js";
import { isErrno } from "../sink/target-error.js";
import { FileReader } from "../source/file-reader.js";
import { readSafetensorsHeader } from "../source/safetensors.js";

/** The member of the file's metadata that says which codec plan its residuals belong to. */
const PLAN_KEY = "tensorwire.codec_plan";

/** Bytes of a residual: a float32. */
const WIDTH = 4;

/**
 * The residuals of one codec plan, as a safetensors file of F32 tensors: read as the last complete transfer left them, and
 * written anew beside them (`NAME.next`), chunk by chunk. What is not written is zero.
 */
export class ResidualFile {
  private constructor(
    private readonly manifest: Manifest,
    /** Where the residuals of each tensor that has some begin in the new file. */
    private readonly begins: ReadonlyMap<string, number>,
    private readonly next: PartFile,
    private readonly last: LastResiduals | undefined,
  ) {}

  /**
   * @throws TensorwireError `SOURCE_MISMATCH` where the file there is of another plan, `SOURCE_INVALID` where it is none,
   * `TARGET_BUSY` where another transfer has it, and as files are read and written.
   */
  static async open(path: string, manifest: Manifest, limits: Limits): Promise<ResidualFile> {
    const carried = manifest.tensors.filter(hasResiduals);
    const infos = carried.map(({ name, shape }): TensorInfo => ({ name, dtype: "F32", shape }));
    const digest = formatDigest(codecPlanDigest(manifest));
    const header = serializeSafetensorsHeader(infos, [[PLAN_KEY, digest]]);
    const begins = new Map(
      infos.map(({ name }, i) => [name, header.bytes.length + header.offsets[i]!.begin]),
    );
    const expectedBytes = header.bytes.length + header.dataBytes;
    // First of all, since it has the lock: what is read then is what the last transfer left.
    const next = await PartFile.open(path, { overwrite: true, suffix: ".next", expectedBytes });
    let last: LastResiduals | undefined;
    try {
      last = await LastResiduals.open(path, { infos, digest, limits });
      await next.write(header.bytes, 0);
      // To its full length at once: chunks that leave nothing are not written.
      if (header.dataBytes > 0) await next.write(new Uint8Array(1), expectedBytes - 1);
      return new ResidualFile(manifest, begins, next, last);
    } catch (error) {
      await last?.close();
      await next.abort();
      throw error;
    }
  }

  /** Tells one state of the last residuals from another. */
  get version(): string {
    return this.last?.version ?? "none";
  }

  has(tensor: number): boolean {
    return this.begins.has(this.manifest.tensors[tensor]!.name);
  }

  /** Fills `target` with the chunk's residuals; with zeros where there was no transfer yet. */
  async read({ tensor, first }: Chunk, target: Uint8Array): Promise<void> {
    const { name } = this.manifest.tensors[tensor]!;
    if (this.last) await this.last.read(name, WIDTH * first, target);
    else target.fill(0);
  }

  /** Writes what the chunk leaves. The bytes are lent until it resolves. */
  async write({ tensor, first }: Chunk, remainders: Uint8Array): Promise<void> {
    const { name } = this.manifest.tensors[tensor]!;
    await this.next.write(remainders, this.begins.get(name)! + WIDTH * first);
  }

  /** Every chunk is written: makes them durable, under the name that they have until the peer has confirmed. */
  async complete(): Promise<void> {
    await this.last?.verify();
    await this.next.complete();
  }

  /** The peer has what was sent: the new residuals take the place of the last. */
  async replace(): Promise<void> {
    await this.next.publish();
    await this.next.release();
    await this.last?.close();
  }

  /** The transfer failed: the last residuals stay. Nothing to do where they were replaced; never rejects. */
  async abort(): Promise<void> {
    await this.last?.close().catch(() => {});
    await this.next.abort();
  }
}

function hasResiduals({ dtype, codec }: Manifest["tensors"][number]): boolean {
  return isFloatDType(dtype) && !isExact(codec);
}

interface Expected {
  readonly infos: readonly TensorInfo[];
  readonly digest: string;
  readonly limits: Limits;
}

/** What the last complete transfer left. */
class LastResiduals {
  private constructor(
    private readonly file: FileReader,
    private readonly begins: ReadonlyMap<string, number>,
  ) {}

  static async open(path: string, expected: Expected): Promise<LastResiduals | undefined> {
    try {
      await lstat(path);
    } catch (error) {
      if (isErrno(error, "ENOENT")) return undefined;
    }
    const file = await FileReader.open(path);
    try {
      const header = await readSafetensorsHeader(file, { limits: expected.limits });
      check(path, header, expected);
      const data = SAFETENSORS_PREFIX_BYTES + header.headerBytes;
      return new LastResiduals(
        file,
        new Map(header.tensors.map(({ info, begin }) => [info.name, data + begin])),
      );
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async read(tensor: string, offset: number, target: Uint8Array): Promise<void> {
    await this.file.readInto(this.begins.get(tensor)! + offset, target);
  }

  get version(): string {
    return this.file.version;
  }

  verify(): Promise<void> {
    return this.file.verify();
  }

  close(): Promise<void> {
    return this.file.close();
  }
}

/** @throws TensorwireError `SOURCE_INVALID`, `SOURCE_MISMATCH`. */
function check(path: string, { metadata, tensors }: SafetensorsHeader, { infos, digest }: Expected): void {
  const found = new Map(metadata).get(PLAN_KEY);
  if (found === undefined) {
    const message = `${quote(path)} is no file of residuals: it does not say which codec plan it is of; name another file`;
    throw new TensorwireError("SOURCE_INVALID", message);
  }
  const same = tensors.length === infos.length && tensors.every(({ info }, i) => sameInfo(info, infos[i]!));
  if (found === digest && same) return;
  throw new TensorwireError(
    "SOURCE_MISMATCH",
    `${quote(path)} has the residuals of another codec plan (${quote(found)}, not ${digest}): tensors, codecs with ` +
      "their parameters, or the chunk size differ; give each plan a file of its own, or remove this one to begin anew",
  );
}
