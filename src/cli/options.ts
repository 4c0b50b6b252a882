/** Options that several commands share, and their checks. */
import { InvalidArgumentError } from 'commander';
import type { TailCallMode, TailCallOverrides } from '../core.ts';

/** A parser of integers from `min` to `max` for commander. */
export function integer(min: number, max: number): (text: string) => number {
  return text => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`expected an integer from ${min} to ${max}.`);
    }
    return value;
  };
}

export interface SlotAssignment {
  readonly map: string;
  readonly index: number;
  readonly program: string;
}

/** Collects `MAP[INDEX]=PROGRAM`. */
export function slotAssignment(text: string, previous: readonly SlotAssignment[] = []): readonly SlotAssignment[] {
  const match = /^([^[\]=]+)\[(\d+)\]=(.+)$/.exec(text);
  if (!match) throw new InvalidArgumentError('expected MAP[INDEX]=PROGRAM, for example stages[3]=stage_udp.');
  const index = Number(match[2]);
  if (index > 0xffff_ffff) throw new InvalidArgumentError('the index must be below 4294967296.');
  return [...previous, { map: match[1]!, index, program: match[3]! }];
}

/** Collects names. */
export function names(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, text];
}

/** How tail calls are compiled. */
export interface TailCallOptions {
  readonly tailCallMode?: TailCallMode;
  readonly emptySlots?: 'stub' | 'test';
  readonly rangeCheck?: 'proved' | 'always';
}

/** The same as options of `load` and `compileProgram`. */
export function tailCallSettings({ tailCallMode, emptySlots, rangeCheck }: TailCallOptions): {
  readonly tailCallMode?: TailCallMode;
  readonly tailCallChoices?: TailCallOverrides;
} {
  const choices = { ...(emptySlots && { emptySlots }), ...(rangeCheck && { rangeCheck }) };
  return {
    ...(tailCallMode && { tailCallMode }),
    ...(Object.keys(choices).length > 0 && { tailCallChoices: choices }),
  };
}
