/** The road of one program from specification to machine code, step by step, without running anything. */
import { check, withForeign } from '../arguments.ts';
import { KFUNCS, kfuncRoutine, REFUSED_KFUNCS } from '../helpers/kfuncs.ts';
import { refusedHelper } from '../helpers/refused.ts';
import { HELPERS, helperRoutine } from '../helpers/table.ts';
import type { AtomicsDialect } from '../jit/arm64/emit-atomic.ts';
import { arm64Machine } from '../jit/arm64/machine.ts';
import type { Code, Machine, TailCallKind, TailCallMode } from '../jit/shared/code.ts';
import type { TailCallOverrides } from '../jit/shared/tail-call-choices.ts';
import { x64Machine } from '../jit/x64/machine.ts';
import { lower } from '../lowering/lower.ts';
import type { Lowered } from '../lowering/lowered.ts';
import { unpackTailCall } from '../lowering/tail-call-imm.ts';
import { mapSpecs, programSpec } from '../object/check.ts';
import type { LineInfo, MapSpec, ProgramSpec } from '../object/spec.ts';
import type { Verified } from '../verifier/facts.ts';
import { verify } from '../verifier/verify.ts';

export interface VerifyProgramOptions {
  /** Detail of the log, as in the kernel; default 0. */
  readonly logLevel?: 0 | 1 | 2;
  /** Raw programs: size of the memory they run on, bytes; default: anything, to be compared with r2 by the program. */
  readonly memorySize?: { readonly min: number; readonly max: number };
  /** Refuse access that is not aligned to its size whatever the memory, as BPF_F_STRICT_ALIGNMENT asks the kernel to. */
  readonly strictAlignment?: boolean;
  /** Rules of the kernel for users without privileges; see VerifyOptions. */
  readonly unprivileged?: boolean | 'cap_bpf';
  /** Reads of stack that was never written. Default "allow", as the kernel does to privileged programs; unprivileged: "refuse". */
  readonly uninitializedStack?: 'refuse' | 'allow';
}

export const verifyMembers = {
  logLevel: check.oneOf(0, 1, 2),
  memorySize: check.record({ min: check.natural, max: check.natural }),
  strictAlignment: check.boolean,
  unprivileged: check.oneOf(true, false, 'cap_bpf'),
  uninitializedStack: check.oneOf('refuse', 'allow'),
};
const verifyOptions = check.options(verifyMembers);
/** What `verifyProgram` and `lowerProgram` made. */
const ours = new WeakSet<Verified | Lowered>();
export const isOurs = (made: Verified | Lowered): boolean =>
  typeof made === 'object' && made !== null && ours.has(made);
const verifiedShape = check.record({
  program: check.record({ name: check.string, insns: check.array, lines: check.array }),
  facts: check.record({ tailCalls: check.array, usedMaps: check.array }),
});
const loweredShape = check.record({ name: check.string, insns: check.array, usedMaps: check.array });

/**
 * Verifies a program against the helpers this runtime has.
 * @param maps the maps it may refer to, by name
 * @throws VerifierError
 */
export function verifyProgram(
  spec: ProgramSpec,
  maps: ReadonlyMap<string, MapSpec>,
  options: VerifyProgramOptions = {},
): Verified {
  programSpec(spec, 'spec');
  mapSpecs(maps, 'maps');
  verifyOptions(options, 'options');
  const { logLevel, memorySize, strictAlignment, unprivileged, uninitializedStack } = options;
  const verified = verify(spec, {
    maps,
    helpers: HELPERS,
    refusedHelper,
    kfuncs: KFUNCS,
    refusedKfuncs: REFUSED_KFUNCS,
    ...(logLevel === undefined ? {} : { logLevel }),
    ...(memorySize === undefined ? {} : { memorySize }),
    ...(strictAlignment === undefined ? {} : { strictAlignment }),
    ...(unprivileged === undefined ? {} : { unprivileged }),
    ...(uninitializedStack === undefined ? {} : { uninitializedStack }),
  });
  ours.add(verified);
  return verified;
}

/**
 * @param pokes give a poke descriptor to each tail call site whose map and index are known
 * @param countMisses count the tail calls that fall through
 * @param countHits and those that succeed
 * @param keepDeadBranches see LowerOptions
 * @throws LoweringError
 */
export function lowerProgram(
  verified: Verified,
  maps: ReadonlyMap<string, MapSpec>,
  pokes: boolean,
  countMisses = false,
  countHits = false,
  keepDeadBranches = false,
): Lowered {
  verifiedShape(verified, 'verified');
  mapSpecs(maps, 'maps');
  for (const [name, flag] of Object.entries({ pokes, countMisses, countHits, keepDeadBranches }))
    check.boolean(flag, name);
  const lowered = withForeign('verified', isOurs(verified), () =>
    lower(verified, { maps, helperRoutine, kfuncRoutine, pokes, countMisses, countHits, keepDeadBranches }),
  );
  if (isOurs(verified)) ours.add(lowered);
  return lowered;
}

export interface CompileProgramOptions {
  /** Default "x64". */
  readonly arch?: Machine['arch'];
  /** arm64: with Armv8.1's atomic instructions ("lse", default) or for Armv8.0 ("exclusive"). */
  readonly atomics?: AtomicsDialect;
  /** Default: the best of the machine, "fast" on x86-64. */
  readonly tailCallMode?: TailCallMode;
  /** Choices that mode "fast" leaves open, other than its own. */
  readonly tailCallChoices?: TailCallOverrides;
  /** Default true. */
  readonly pokes?: boolean;
}

export const compileMembers = {
  arch: check.oneOf('x64', 'arm64'),
  atomics: check.oneOf('lse', 'exclusive'),
  // Which there are is the machine's affair.
  tailCallMode: check.string,
  tailCallChoices: check.options({}),
  pokes: check.boolean,
};
const compileOptions = check.options(compileMembers);

/** The compiler that options ask for. */
export function machineFor({ arch, atomics }: CompileProgramOptions): Machine {
  return arch === 'arm64' ? arm64Machine(atomics ?? 'lse') : x64Machine;
}

/** Compiles a lowered program; which machine this runs on does not matter. @throws CompileError */
export function compileProgram(lowered: Lowered, options: CompileProgramOptions = {}): Code {
  loweredShape(lowered, 'lowered');
  compileOptions(options, 'options');
  const machine = machineFor(options);
  return withForeign('lowered', isOurs(lowered), () =>
    machine.compile(lowered, {
      kind: 'program',
      tailCallMode: options.tailCallMode ?? machine.tailCallModes.at(-1)!,
      ...(options.tailCallChoices && { tailCallChoices: options.tailCallChoices }),
      pokes: options.pokes !== false,
    }),
  );
}

export interface TailCallSiteInfo {
  /** Slot of the call in the object's program. */
  readonly insn: number;
  readonly line: LineInfo | undefined;
  /** Names of the prog arrays that reach it. */
  readonly maps: readonly string[];
  /** The one index that reaches it, if there is just one. */
  readonly index: number | undefined;
  readonly kind: TailCallKind;
}

/** Every tail call that can be reached, and its kind (tail-call packing decides it, see lowering/). */
export function tailCallSites(verified: Verified, lowered: Lowered): TailCallSiteInfo[] {
  verifiedShape(verified, 'verified');
  loweredShape(lowered, 'lowered');
  return withForeign('verified or lowered', isOurs(verified) && isOurs(lowered), () => sitesOf(verified, lowered));
}

function sitesOf(verified: Verified, lowered: Lowered): TailCallSiteInfo[] {
  const kinds = new Map<number, TailCallKind>();
  for (const [slot, insn] of lowered.insns.entries()) {
    if (insn.kind !== 'tailCall') continue;
    const { dynamic, poke } = unpackTailCall(insn.imm);
    kinds.set(lowered.origin[slot]!, dynamic ? 'dynamic' : poke === undefined ? 'static' : 'direct');
  }
  return verified.facts.tailCalls.map(({ insn, maps, index }) => ({
    insn,
    line: lineAt(verified.program.lines, insn),
    maps,
    index,
    kind: kinds.get(insn) ?? 'dynamic',
  }));
}

/** The line that covers an instruction. */
export function lineAt(lines: readonly LineInfo[], insn: number): LineInfo | undefined {
  check.array(lines, 'lines');
  check.natural(insn, 'insn');
  return withForeign('lines', false, () => covering(lines, insn));
}

function covering(lines: readonly LineInfo[], insn: number): LineInfo | undefined {
  let low = 0;
  let high = lines.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (lines[middle]!.insn <= insn) low = middle + 1;
    else high = middle;
  }
  return lines[low - 1];
}
