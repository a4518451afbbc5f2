import type { DeviceCodecs } from "./device-codec.js";
import { selfTest } from "./self-test.js";
import type { Transport } from "./transport.js";

/** Which codecs the device gives the reference's bits of: each is tried once, before its first chunk. */
export class CodecTrials {
  readonly #trials = new Map<string, Promise<boolean>>();

  /** @param notice is told of a codec that is left to the CPU, and why. */
  constructor(
    private readonly names: readonly string[],
    private readonly transport: Transport,
    private readonly codecs: DeviceCodecs,
    private readonly notice: (message: string) => void,
  ) {}

  /** @throws TensorwireError `DEVICE_LOST`. */
  async all(): Promise<void> {
    await Promise.all(this.names.map((name) => this.passes(name)));
  }

  /** Whether the device is to have the codec. */
  passes(name: string): Promise<boolean> {
    let trial = this.#trials.get(name);
    if (trial === undefined) {
      trial = this.names.includes(name) ? this.#try(name) : Promise.resolve(false);
      this.#trials.set(name, trial);
    }
    return trial;
  }

  async #try(name: string): Promise<boolean> {
    const fault = await selfTest(this.transport, this.codecs, name);
    if (fault !== undefined) this.notice(`${name} runs on the CPU, and not on this device: ${fault}`);
    return fault === undefined;
  }
}
