/** Philox4x32-10, as core's `philox` has it: the random words of four elements of a tensor. */
export const PHILOX = /* wgsl */ `
fn upperProduct(a: u32, b: u32) -> u32 {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let middle = a1 * b0 + ((a0 * b0) >> 16u);
  let carried = a0 * b1 + (middle & 0xffffu);
  return a1 * b1 + (middle >> 16u) + (carried >> 16u);
}

// Of the group of four that is so many after the chunk's first.
fn draws(group: u32) -> vec4<u32> {
  let low = parameters.counter0 + group;
  var c = vec4<u32>(
    low,
    parameters.counter1 + select(0u, 1u, low < group),
    parameters.tensor0,
    parameters.tensor1,
  );
  var key = vec2<u32>(parameters.key0, parameters.key1);
  for (var round = 0u; round < 10u; round++) {
    let high0 = upperProduct(c.x, 0xd2511f53u);
    let high1 = upperProduct(c.z, 0xcd9e8d57u);
    c = vec4<u32>(high1 ^ c.y ^ key.x, c.z * 0xcd9e8d57u, high0 ^ c.w ^ key.y, c.x * 0xd2511f53u);
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
`;
