import { quote, TensorwireError } from "./errors.js";

/** Nesting that no file we read comes near; it keeps a hostile one from exhausting the stack. */
const MAX_DEPTH = 256;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const LITERAL = /true|false|null/y;
/** What makes a string more than its own value: control characters, backslashes, halves of surrogate pairs. */
const NOT_PLAIN = /[^ -[\]-\ud7ff\ue000-\uffff]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Reads JSON of a known form straight into its caller's structures. `JSON.parse` hides duplicate keys, moves
 * integer-like ones to the front, rounds large numbers, and builds whatever a hostile file asks for; this does none of it.
 * Every fault is a TensorwireError `SOURCE_INVALID` that says where.
 */
export class JsonReader {
  /** The tensor being read, if one is: errors name it. */
  tensor: string | undefined;
  readonly #text: string;
  readonly #what: string;
  #at = 0;
  #depth = 0;

  /** @param what What the text is, for errors: `safetensors header`. */
  constructor(text: string, what: string) {
    this.#text = text;
    this.#what = what;
  }

  /** The error of a text that is JSON and still wrong. */
  fault(message: string, cause?: unknown): TensorwireError {
    const text = this.tensor === undefined ? `${this.#what}: ${message}` : message;
    return new TensorwireError("SOURCE_INVALID", text, { tensor: this.tensor, cause });
  }

  /** Calls `member` at each key, to read its value. Duplicate keys are refused. */
  object(member: (key: string) => void, keys: "fields" | "tensors" = "fields"): void {
    this.#open(OPEN_BRACE, "an object");
    const seen = new KeySet();
    let more = !this.#skipIf(CLOSE_BRACE);
    while (more) {
      if (this.#next() !== QUOTE) throw this.#unexpected("a key");
      const key = this.string();
      if (!seen.add(key)) throw this.#duplicate(key, keys);
      if (!this.#skipIf(COLON)) throw this.#unexpected("':'");
      member(key);
      more = this.#skipIf(COMMA);
      if (!more && !this.#skipIf(CLOSE_BRACE)) throw this.#unexpected("',' or '}'");
    }
    this.#depth -= 1;
  }

  /** Calls `item` at each item, to read it. */
  array(item: (index: number) => void): void {
    this.#open(OPEN_BRACKET, "an array");
    let more = !this.#skipIf(CLOSE_BRACKET);
    for (let index = 0; more; index++) {
      item(index);
      more = this.#skipIf(COMMA);
      if (!more && !this.#skipIf(CLOSE_BRACKET)) throw this.#unexpected("',' or ']'");
    }
    this.#depth -= 1;
  }

  /** A string, which must be well-formed Unicode: it has to survive UTF-8. */
  string(): string {
    if (this.#next() !== QUOTE) throw this.#unexpected("a string");
    const begin = this.#at + 1;
    let end = this.#text.indexOf('"', begin);
    while (end !== -1 && this.#isEscaped(begin, end)) end = this.#text.indexOf('"', end + 1);
    if (end === -1) throw this.#unexpected("a string that ends");
    const raw = this.#text.slice(begin, end);
    const value = NOT_PLAIN.test(raw) ? this.#unescape(raw) : raw;
    this.#at = end + 1;
    return value;
  }

  /** A string that outlives the text: others may be parts of it, and keep all of it in memory. */
  ownString(): string {
    return JSON.parse(JSON.stringify(this.string()));
  }

  /** An unsigned integer below 2⁵³, in digits alone. */
  count(): number {
    const first = this.#next();
    const begin = this.#at;
    let value = 0;
    for (let code = first; code >= 0x30 && code <= 0x39; code = this.#text.charCodeAt(++this.#at)) {
      value = value * 10 + (code - 0x30);
    }
    const digits = this.#at - begin;
    const follows = this.#text.charAt(this.#at);
    const isCount = digits > 0 && (first !== 0x30 || digits === 1) && !/[.eE]/.test(follows);
    if (!isCount || !Number.isSafeInteger(value)) {
      this.#at = begin;
      throw this.#unexpected("a count below 2^53");
    }
    return value;
  }

  /** Any number, which must be finite. */
  number(): number {
    this.#next();
    const value = Number(this.#match(NUMBER) ?? Number.NaN);
    if (!Number.isFinite(value)) throw this.#unexpected("a finite number");
    return value;
  }

  /** Passes over a value of any form. */
  skip(): void {
    const code = this.#next();
    if (code === OPEN_BRACE) this.object(() => this.skip());
    else if (code === OPEN_BRACKET) this.array(() => this.skip());
    else if (code === QUOTE) this.string();
    else if (this.#match(LITERAL) === undefined && this.#match(NUMBER) === undefined) {
      throw this.#unexpected("a value");
    }
  }

  /** A value of any form, as `JSON.parse` makes it. */
  value(): unknown {
    this.#next();
    const begin = this.#at;
    this.skip();
    return JSON.parse(this.#text.slice(begin, this.#at));
  }

  /** Checks that nothing but white space is left. */
  end(): void {
    if (!Number.isNaN(this.#next())) throw this.#unexpected("the end");
  }

  #open(bracket: number, what: string): void {
    if (!this.#skipIf(bracket)) throw this.#unexpected(what);
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH) throw this.fault(`nested deeper than ${MAX_DEPTH} levels`);
  }

  /** Code of the next character that is not white space, NaN at the end. */
  #next(): number {
    let code = this.#text.charCodeAt(this.#at);
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
      this.#at += 1;
      code = this.#text.charCodeAt(this.#at);
    }
    return code;
  }

  #skipIf(code: number): boolean {
    if (this.#next() !== code) return false;
    this.#at += 1;
    return true;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #isEscaped(begin: number, end: number): boolean {
    let at = end;
    while (at > begin && this.#text.charCodeAt(at - 1) === BACKSLASH) at -= 1;
    return (end - at) % 2 === 1;
  }

  #unescape(raw: string): string {
    let value: string;
    try {
      value = JSON.parse(`"${raw}"`);
    } catch (cause) {
      throw this.#faultHere("a string with a bad escape or a control character", cause);
    }
    if (LONE_SURROGATE.test(value)) {
      throw this.#faultHere("a string with half a surrogate pair, which is not Unicode");
    }
    return value;
  }

  #duplicate(key: string, keys: "fields" | "tensors"): TensorwireError {
    if (keys === "fields") return this.fault(`key ${quote(key)} appears twice`);
    return new TensorwireError("SOURCE_INVALID", `appears twice in the ${this.#what}`, { tensor: key });
  }

  #unexpected(wanted: string): TensorwireError {
    const rest = this.#text.slice(this.#at, this.#at + 20);
    return this.#faultHere(`expected ${wanted}, found ${rest === "" ? "the end" : quote(rest)}`);
  }

  #faultHere(message: string, cause?: unknown): TensorwireError {
    const text = `character ${this.#at} of the ${this.#what}: ${message}`;
    return new TensorwireError("SOURCE_INVALID", text, { tensor: this.tensor, cause });
  }
}

/** Most objects have a handful of keys, for which a `Set` costs more than all the rest of their reading. */
class KeySet {
  readonly #few: string[] = [];
  #many: Set<string> | undefined;

  /** Whether the key is new. */
  add(key: string): boolean {
    if (this.#many !== undefined) return this.#many.size < this.#many.add(key).size;
    if (this.#few.includes(key)) return false;
    if (this.#few.push(key) === 8) this.#many = new Set(this.#few);
    return true;
  }
}
