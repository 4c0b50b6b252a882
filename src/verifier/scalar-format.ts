/** Scalars as text, as Linux prints them in its verifier log (kernel/bpf/log.c). */

import { S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX } from './scalar-settle.ts';
import type { Scalar } from './scalar-value.ts';

const S16_MIN = -0x8000n;
const S16_MAX = 0x7fffn;
const U16_MAX = 0xffffn;

/**
 * "" if nothing is known, a signed number for a constant, else the bounds that say something and the known bits, joined by commas:
 * `smin=smin32=-1,smax=255,var_off=(0x0; 0xff)`. Equal bounds of the same end share a number; numbers beyond 16 bits are hexadecimal.
 */
export function formatScalar(s: Scalar): string {
  if (s.tnum.mask === 0n) return signedText(BigInt.asIntN(64, s.tnum.value));
  // Lower and upper bounds alternate, so that entries two apart are bounds of the same end.
  const bounds = [
    { name: 'smin', value: s.smin, omit: s.smin === S64_MIN },
    { name: 'smax', value: s.smax, omit: s.smax === S64_MAX },
    { name: 'umin', value: s.umin, omit: s.umin === 0n },
    { name: 'umax', value: s.umax, omit: s.umax === U64_MAX },
    { name: 'smin32', value: signed32(s.s32min), omit: s.s32min === S32_MIN },
    { name: 'smax32', value: signed32(s.s32max), omit: s.s32max === S32_MAX },
    { name: 'umin32', value: BigInt(s.u32min), omit: s.u32min === 0 },
    { name: 'umax32', value: BigInt(s.u32max), omit: s.u32max === U32_MAX },
  ];
  const parts: string[] = [];
  for (const [i, bound] of bounds.entries()) {
    if (bound.omit) continue;
    let names = `${bound.name}=`;
    for (let k = i + 2; k < bounds.length; k += 2) {
      const other = bounds[k]!;
      if (other.omit || other.value !== bound.value) continue;
      other.omit = true;
      names += `${other.name}=`;
    }
    parts.push(names + (bound.name.startsWith('s') ? signedText(bound.value) : unsignedText(bound.value)));
  }
  if (s.tnum.value !== 0n || s.tnum.mask !== U64_MAX) {
    parts.push(`var_off=(0x${s.tnum.value.toString(16)}; 0x${s.tnum.mask.toString(16)})`);
  }
  return parts.join(',');
}

/** 32-bit bounds that will be printed in hexadecimal are not sign-extended. */
function signed32(bound: number): bigint {
  const value = BigInt(bound);
  return value >= S16_MIN && value <= S16_MAX ? value : BigInt.asUintN(32, value);
}

function signedText(value: bigint): string {
  return value >= S16_MIN && value <= S16_MAX ? value.toString() : `0x${BigInt.asUintN(64, value).toString(16)}`;
}

function unsignedText(value: bigint): string {
  return value <= U16_MAX ? value.toString() : `0x${value.toString(16)}`;
}
