const UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** Reads `4GiB`, `32 MiB`, `10MB` or a number of bytes. @throws Error for anything else. */
export function parseBytes(text: string): number {
  const [, digits, unit] = /^([\d.]+)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const bytes = Number(digits) * (UNITS[(unit ?? "").toUpperCase()] ?? Number.NaN);
  if (!Number.isSafeInteger(bytes) || bytes < 0)
    throw new Error(`"${text}" is no size: write 4GiB, 32MiB or 1048576`);
  return bytes;
}

/** In MiB, as the bars are stated, or in GiB from 10 GiB on; one decimal. */
export function formatMiB(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return mib < 10240 ? `${mib.toFixed(1)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** A size that somebody chose: 4 GiB, 32 MiB. */
export function formatSize(bytes: number): string {
  for (const [unit, size] of [
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (bytes % size === 0) return `${bytes / size} ${unit}`;
  }
  return `${bytes} B`;
}
