import { styleText } from "node:util";
import type { ProgressEvent } from "@tensorwire/stream";

const BAR_CELLS = 30;

/** 6,975,914 */
export const grouped = (count: number): string => count.toLocaleString("en-US");

/** In units of a thousand, as sizes of files and lines are told: 27.9 MB. */
export function megabytes(bytes: number): string {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

/** Keeps the end of a long name, which tells tensors apart. */
export const tail = (name: string, width: number): string =>
  name.length <= width ? name : `…${name.slice(name.length - width + 1)}`;

/** What the demo writes on: a terminal, with a bar that moves and some colour, or lines. */
export class Screen {
  readonly #terminal: boolean;
  readonly #colour: boolean;
  /** Quarters of the transfer that lines have told of. */
  #quarters = 0;

  constructor(private readonly out: NodeJS.WriteStream) {
    this.#terminal = out.isTTY === true && process.env.TERM !== "dumb";
    this.#colour = this.#terminal && !process.env.NO_COLOR;
  }

  line(text = ""): void {
    this.out.write(`${text}\n`);
  }

  heading(text: string): void {
    this.line(`\n${this.#style("bold", text)}`);
  }

  /** `  name  value`, under a heading. */
  row(name: string, value: string): void {
    this.line(`  ${this.#style("dim", name.padEnd(16))}  ${value}`);
  }

  good(text: string): void {
    this.line(this.#style("green", text));
  }

  bad(text: string): void {
    this.line(this.#style("red", text));
  }

  /** How far the receiver is: what it has finished with, not what was sent. */
  progress(event: ProgressEvent): void {
    const { acknowledgedBytes, totalBytes, wireBytes, phase } = event;
    const share = totalBytes ? acknowledgedBytes / totalBytes : 1;
    const figures = `${megabytes(acknowledgedBytes)} as ${megabytes(wireBytes)}`;
    if (this.#terminal) {
      const full = Math.round(share * BAR_CELLS);
      const bar = `${"█".repeat(full)}${this.#style("dim", "░".repeat(BAR_CELLS - full))}`;
      const percent = `${Math.floor(share * 100)} %`.padStart(5);
      this.out.write(`\r  ${bar} ${percent}  ${figures}\x1b[K${phase === "done" ? "\n" : ""}`);
      return;
    }
    const quarters = Math.floor(share * 4);
    if (quarters === this.#quarters && phase !== "done") return;
    this.#quarters = quarters;
    this.line(`  ${Math.floor(share * 100)} %  ${figures}`);
  }

  #style(style: "bold" | "dim" | "green" | "red", text: string): string {
    return this.#colour ? styleText(style, text) : text;
  }
}
