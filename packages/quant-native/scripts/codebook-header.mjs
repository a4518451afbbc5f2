// The codebooks of @tensorwire/core as a C++ header: one source of truth, and bit patterns all the way.

const word = new DataView(new ArrayBuffer(4));

function bits(value) {
  word.setFloat32(0, value);
  if (!Object.is(word.getFloat32(0), value)) throw new RangeError(`${value} is not a float32`);
  return word.getUint32(0);
}

/** A float32 as a C++17 literal that no decimal conversion can round: ±0x1.hhhhhhp±e. */
function literal(value) {
  const pattern = bits(value);
  const sign = pattern >>> 31 === 1 ? "-" : "";
  const exponent = (pattern >>> 23) & 0xff;
  const fraction = ((pattern & 0x7fffff) << 1).toString(16).padStart(6, "0");
  if (exponent === 0 && fraction === "000000") return `${sign}0.0f`;
  if (exponent === 0 || exponent === 255) throw new RangeError(`${value} is not a normal float32`);
  return `${sign}0x1.${fraction}p${exponent - 127}f`;
}

function array(type, name, items) {
  const lines = [];
  for (let i = 0; i < items.length; i += 8) lines.push(`    ${items.slice(i, i + 8).join(", ")},`);
  return `alignas(64) constexpr ${type} ${name}[${items.length}] = {\n${lines.join("\n")}\n};\n`;
}

/** @param core the exports of @tensorwire/core. */
export function codebookHeader(core) {
  const hex = (value) => `0x${bits(value).toString(16).padStart(8, "0")}`;
  return [
    "// Generated from @tensorwire/core's codebooks: see scripts/codebook-header.mjs.",
    "#pragma once\n",
    "#include <cstdint>\n",
    "namespace tensorwire {\n",
    array("float", "kDynamic8", core.DYNAMIC8.map(literal)),
    array("uint32_t", "kDynamic8Bits", core.DYNAMIC8.map(hex)),
    "// The code of x is the number of these that x is greater than; ties are folded in.",
    array("uint32_t", "kDynamic8ThresholdBits", core.DYNAMIC8_THRESHOLDS.map(hex)),
    array("float", "kNf4", core.NF4.map(literal)),
    array("float", "kNf4Thresholds", core.NF4_THRESHOLDS.map(literal)),
    array("float", "kFp4", core.FP4.map(literal)),
    array("float", "kFp4Thresholds", core.FP4_THRESHOLDS.map(literal)),
    "// By the number of thresholds that the magnitude is greater than.",
    array("uint8_t", "kFp4Codes", core.FP4_CODES),
    "}  // namespace tensorwire\n",
  ].join("\n");
}
