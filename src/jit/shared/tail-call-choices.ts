/**
 * What a tail-call mode consists of: named choices, of which a mode is a preset.
 *
 * 'baseline' is what compilers did before the series, 'cached' what they do in it, 'fast' what makes a hop cheapest. Each
 * choice says what a call site, or the frame around it, does. Those that stand on their own can be chosen apart from their mode
 * (`TailCallOverrides`), so that what each is worth can be measured at any time; the others hang together, since they
 * decide where frames and counts lie. Machines differ in what they choose for the first two modes.
 */
import { describe } from '../../arguments.ts';
import type { TailCallMode } from './code.ts';
import { CompileError } from './errors.ts';

export interface TailCallChoices {
  /** The number of tail calls that a run may still make, or has made: in its entry's frame, or in a register that all code keeps. */
  readonly count: 'memory' | 'register';
  /**
   * 'own': each program has the frame it needs, which a hop takes down. 'common': all functions that hops leave or reach have
   * the same one, whose callee-saved registers are saved once, at the entry of a run; a hop leaves it alone.
   */
  readonly frames: 'own' | 'common';
  /** Where a site that knows its array finds its target: through the program object, or in the array's second half. */
  readonly targets: 'read' | 'cached';
  /** Whether a dynamic site uses the second half too. */
  readonly dynamicTargets: 'read' | 'cached';
  /** 'proved': index checks and truncations are left out where the verifier proved the index. */
  readonly rangeCheck: 'always' | 'proved';
  /**
   * How a call finds that the slot in the array's second half is empty. 'test': the slot holds 0, and each hop looks. 'stub': it holds the
   * address of the machine's miss stub, which takes the call off the count again and goes on behind it.
   */
  readonly emptySlots: 'test' | 'stub';
  /** Patched instructions of a direct site: one that leads past the call and one that leads to the target, or only the latter. */
  readonly directJumps: 'two' | 'one';
  /** Direct sites: what only loads map and index for them, which they do not read. */
  readonly deadArguments: 'load' | 'drop';
}

/** Choices that can be made apart from a mode, where it is 'fast'. */
export type TailCallOverrides = Partial<Pick<TailCallChoices, 'rangeCheck' | 'emptySlots'>>;

export type TailCallPresets = Readonly<Record<TailCallMode, TailCallChoices>>;

/** @param count in the two modes that come from the series; in 'fast' all machines are the same */
export function tailCallPresets(count: TailCallChoices['count']): TailCallPresets {
  const baseline: TailCallChoices = {
    count,
    frames: 'own',
    targets: 'read',
    dynamicTargets: 'read',
    rangeCheck: 'always',
    emptySlots: 'test',
    directJumps: 'two',
    deadArguments: 'load',
  };
  return { baseline, cached: { ...baseline, targets: 'cached' }, fast: FAST_CHOICES };
}

const FAST_CHOICES: TailCallChoices = {
  count: 'register',
  frames: 'common',
  targets: 'cached',
  dynamicTargets: 'cached',
  rangeCheck: 'proved',
  emptySlots: 'stub',
  directJumps: 'one',
  deadArguments: 'drop',
};

const VALUES: Readonly<Record<keyof TailCallOverrides, readonly string[]>> = {
  rangeCheck: ['always', 'proved'],
  emptySlots: ['test', 'stub'],
};

/**
 * A mode's choices, with those that are made apart from it. What the mode chooses anyway may be named in every mode.
 * @throws CompileError `bad_choice` for what is no such choice, and for one that the mode does not leave open
 */
export function chooseTailCalls(
  presets: TailCallPresets,
  mode: TailCallMode,
  overrides: TailCallOverrides = {},
): TailCallChoices {
  checkOverrides(overrides);
  const preset: TailCallChoices | undefined = presets[mode];
  for (const [name, value] of Object.entries(overrides) as [keyof TailCallOverrides, string][]) {
    // A mode that there isn't is refused by whoever compiles for it.
    if (mode === 'fast' || preset === undefined || preset[name] === value) continue;
    throw new CompileError(
      'bad_choice',
      `${name} is '${preset[name]}' in tail-call mode '${mode}', not '${value}'; use tailCallMode 'fast'`,
      { [name]: value, tailCallMode: mode },
    );
  }
  return { ...preset, ...overrides };
}

/** @throws CompileError `bad_choice` */
export function checkOverrides(overrides: TailCallOverrides): void {
  for (const [name, value] of Object.entries(overrides)) {
    const values = VALUES[name as keyof TailCallOverrides] as readonly string[] | undefined;
    if (values?.includes(value)) continue;
    const expected = values
      ? `${name} is ${values.map(each => `'${each}'`).join(' or ')}`
      : `a choice is ${Object.keys(VALUES).join(' or ')}`;
    throw new CompileError(
      'bad_choice',
      values
        ? `tail-call choices: ${expected}, not '${typeof value === 'string' ? value : describe(value)}'`
        : `tail-call choices: ${expected}, not ${name}`,
      { [name]: value },
    );
  }
}
