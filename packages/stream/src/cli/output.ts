/**
 * Where a command's words go: its result to stdout, everything else to stderr, so that `$(tensorwire …)` and `| jq` see
 * the result alone.
 */
export class Output {
  quiet = false;
  /** stdout carries a model: the result goes to stderr too. */
  stdoutIsModel = false;

  constructor(public json: boolean) {
    // A reader that has left (`| head`, a closed terminal) is no reason to crash.
    process.stdout.on("error", () => {});
    process.stderr.on("error", () => {});
  }

  /** The command's result. */
  result(text: string): void {
    this.#write(this.stdoutIsModel ? process.stderr : process.stdout, text);
  }

  /** A line for whoever watches. */
  note(text: string): void {
    this.#write(process.stderr, text);
  }

  #write(stream: NodeJS.WriteStream, text: string): void {
    if (!stream.destroyed) stream.write(`${text}\n`);
  }

  /** Resolves when all of it is written, or cannot be. */
  async flush(): Promise<void> {
    // What a model's reader does not take is not waited for: the transfer has waited, or has failed.
    const streams = this.stdoutIsModel ? [process.stderr] : [process.stdout, process.stderr];
    await Promise.all(streams.map(written));
  }
}

function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => (stream.destroyed ? resolve() : void stream.write("", () => resolve())));
}
