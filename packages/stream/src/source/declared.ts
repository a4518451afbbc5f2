import {
  type BufferPool,
  bytesOf,
  type Chunk,
  type DeviceBytes,
  type Loan,
  type ModelInfo,
  sameInfo,
  type SourceTensor,
  type TensorInfo,
  TensorwireError,
  tensorBytes,
} from "@tensorwire/core";
import { type Deferred, deferred } from "../session/deferred.js";
import { DeviceLoan, deviceBytes, isDeviceData } from "./device-tensor.js";
import { SharedLoan } from "./shared-loan.js";
import type { OneShotSource } from "./source.js";
import { metadataOf, type TensorsOptions, tensorInfo } from "./tensors.js";

/** Tensors up to this size are copied, so that small ones are read ahead, and share frames. */
const COPIED_BYTES = 64 * 1024;

const NOTHING = new Uint8Array(0);

/** A tensor of the caller's, lent to chunks that are under way. */
interface Lent {
  readonly tensor: SharedLoan;
  readonly back: Deferred<void>;
}

/**
 * A container stream: names, dtypes and shapes up front, data tensor by tensor, in that order. The next tensor is asked
 * for only when there is credit for its first chunk; each one stays the caller's, and is not read after the next is asked
 * for. It can be read once: a transfer of it that is interrupted does not go on by itself (`retry`).
 * @example
 * const info = { name: "weight", dtype: "F32", shape: [1000] } as const;
 * async function* made() {
 *   yield { ...info, data: new Float32Array(1000).fill(0.5) };
 * }
 * await streamModel(fromTensors([info], made()), destination, { codec: "normfloat4" });
 */
export function fromTensors(
  infos: readonly TensorInfo[],
  tensors: Iterable<SourceTensor> | AsyncIterable<SourceTensor>,
  options: Pick<TensorsOptions, "metadata"> = {},
): OneShotSource {
  return new DeclaredSource(infos, tensors, options);
}

class DeclaredSource implements OneShotSource {
  readonly name = "declared tensors";
  readonly oneShot = true;
  #infos: readonly TensorInfo[] = [];
  #iterator: AsyncIterator<SourceTensor> | Iterator<SourceTensor> | undefined;
  /** Index of the tensor that is being read. */
  #at = -1;
  #data: Uint8Array = NOTHING;
  /** The tensor that is being read, unless its chunks are copies. */
  #lent: Lent | undefined;

  constructor(
    private readonly infos: readonly TensorInfo[],
    private readonly tensors: Iterable<SourceTensor> | AsyncIterable<SourceTensor>,
    private readonly options: Pick<TensorsOptions, "metadata">,
  ) {}

  async open(): Promise<ModelInfo> {
    this.#infos = this.infos.map(tensorInfo);
    const { tensors } = this;
    this.#iterator =
      Symbol.asyncIterator in tensors ? tensors[Symbol.asyncIterator]() : tensors[Symbol.iterator]();
    return { kind: "model", tensors: this.#infos, metadata: metadataOf(this.options.metadata) };
  }

  read(chunk: Chunk, pool: BufferPool): Loan | Promise<Loan> {
    const advancing = this.#advance(chunk.tensor);
    return advancing ? advancing.then(() => this.#lend(chunk, pool)) : this.#lend(chunk, pool);
  }

  #lend({ offset, bytes }: Chunk, pool: BufferPool): Loan {
    if (this.#lent) return this.#lent.tensor.part(offset, offset + bytes);
    const copy = pool.lend(bytes);
    copy.bytes.set(this.#data.subarray(offset, offset + bytes));
    return copy;
  }

  /**
   * Empty tensors have no chunks, but they are yielded too. Waits for nothing that is there: of small tensors in memory,
   * thousands are read in the time that as many waits take.
   */
  #advance(tensor: number): Promise<void> | undefined {
    while (this.#at < tensor) {
      if (this.#lent) return this.#returned().then(() => this.#advance(tensor));
      const step = this.#iterator!.next();
      if ("then" in step) {
        return Promise.resolve(step).then((result) => {
          this.#take(result);
          return this.#advance(tensor);
        });
      }
      this.#take(step);
    }
    return undefined;
  }

  #take({ done, value }: IteratorResult<SourceTensor>): void {
    const info = this.#infos[this.#at + 1]!;
    if (done) throw mismatch(info, "the iterable ended before this tensor");
    const data = check(info, value);
    this.#data = data instanceof Uint8Array ? data : NOTHING;
    // What is on a device is copied nowhere.
    if (data.byteLength > COPIED_BYTES || data !== this.#data) this.#lent = lend(data);
    this.#at++;
  }

  /** What the caller yielded is its own again when it is asked for the next: it may have only one buffer. */
  async #returned(): Promise<void> {
    const lent = this.#lent;
    this.#lent = undefined;
    lent?.tensor.release();
    await lent?.back.promise;
  }

  async verify(): Promise<void> {
    await this.#advance(this.#infos.length - 1);
    await this.#returned();
    const { done, value } = await this.#iterator!.next();
    this.#iterator = undefined;
    if (!done) throw mismatch(value, "the iterable yields more tensors than were declared");
  }

  async close(): Promise<void> {
    this.#data = new Uint8Array(0);
    const iterator = this.#iterator;
    this.#iterator = undefined;
    // Not waited for: a generator that is busy finishes its step first, however long that takes.
    void Promise.resolve(iterator?.return?.()).catch(() => {});
  }
}

function lend(data: Uint8Array | DeviceBytes): Lent {
  const back = deferred<void>();
  const release = (): void => back.resolve();
  const loan = data instanceof Uint8Array ? { bytes: data, release } : new DeviceLoan(data, release);
  return { tensor: new SharedLoan(loan), back };
}

function check(info: TensorInfo, tensor: SourceTensor): Uint8Array | DeviceBytes {
  const data: unknown = typeof tensor === "object" && tensor !== null ? tensor.data : undefined;
  if (!ArrayBuffer.isView(data) && !isDeviceData(data)) {
    throw mismatch(info, "the iterable yields something else than a tensor with data");
  }
  if (!sameInfo(info, tensor)) {
    const got = `${tensor.dtype} [${tensor.shape}] ${JSON.stringify(tensor.name)}`;
    throw mismatch(info, `declared as ${info.dtype} [${info.shape}], but the iterable yields ${got}`);
  }
  if (!ArrayBuffer.isView(data)) return deviceBytes(info, data);
  if (data.byteLength !== tensorBytes(info)) {
    throw mismatch(info, `${data.byteLength} bytes of data where ${tensorBytes(info)} were declared`);
  }
  return bytesOf(data);
}

function mismatch(info: Pick<TensorInfo, "name"> | undefined, message: string): TensorwireError {
  return new TensorwireError("SOURCE_MISMATCH", message, { tensor: info?.name });
}
