import { quote, TensorwireError } from "@tensorwire/core";

/** What a server's artifacts take of its disks: those that it has published, and those that it is collecting. */
export class SpoolRoom {
  readonly #files = new Map<string, number>();
  #taken = 0;

  constructor(private readonly limit: number) {}

  /** Bytes of all of them. */
  get taken(): number {
    return this.#taken;
  }

  /**
   * The file will have so many bytes, or has.
   * @throws TensorwireError `TARGET_FULL` where that is too much beside the others; then it has what it had.
   */
  claim(path: string, bytes: number): void {
    const others = this.#taken - (this.#files.get(path) ?? 0);
    if (others + bytes > this.limit) {
      const message =
        `${quote(path)} would take ${bytes} bytes beside the ${others} of the server's other artifacts, over its limit ` +
        `maxSpoolBytes = ${this.limit}: keep fewer versions, or raise it`;
      throw new TensorwireError("TARGET_FULL", message);
    }
    this.#set(path, bytes);
  }

  /** What it has turned out to be, whatever the limit. */
  settle(path: string, bytes: number): void {
    this.#set(path, bytes);
  }

  /** It is gone. */
  free(path: string): void {
    this.#set(path, 0);
    this.#files.delete(path);
  }

  #set(path: string, bytes: number): void {
    this.#taken += bytes - (this.#files.get(path) ?? 0);
    this.#files.set(path, bytes);
  }
}
