/** Memory for a moment, of which there is one piece: whoever needs it waits for its turn. */
export class Scratch {
  #bytes = new Uint8Array(0);
  #turn: Promise<unknown> = Promise.resolve();

  lend<T>(bytes: number, use: (scratch: Uint8Array) => Promise<T>): Promise<T> {
    const used = this.#turn.then(() => {
      if (this.#bytes.length < bytes) this.#bytes = new Uint8Array(bytes);
      return use(this.#bytes.subarray(0, bytes));
    });
    this.#turn = used.catch(() => {});
    return used;
  }
}
