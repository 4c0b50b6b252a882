/** Throw-away evaluator of routines, until the interpreter runs. */
import { assemble } from '../../src/isa/assembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import type { Routine } from '../../src/isa/routine.ts';
import type { RoutineCaller } from '../../src/maps/map.ts';
import type { Arena } from '../../src/memory/arena.ts';

export function evaluator(
  arena: Arena,
  routines: readonly Routine[],
  runContext: bigint,
  stackTop: bigint,
): RoutineCaller {
  const code = new Map<string, Instruction[]>();
  const get = (name: string): Instruction[] => {
    let found = code.get(name);
    if (!found) {
      const routine = routines.find(r => r.name === name);
      if (!routine) throw new Error(`no routine ${name}`);
      found = assemble(routine.text, { internal: true });
      code.set(name, found);
    }
    return found;
  };
  const run = (name: string, args: bigint[], top: bigint): bigint => {
    const insns = get(name);
    const r = Array.from({ length: 12 }, (_, i) => args[i - 1] ?? 0xdeadn);
    r[10] = top;
    const u = (v: bigint) => BigInt.asUintN(64, v);
    const load = (a: bigint, s: number, signed = false): bigint => {
      const o = arena.offset(a, s);
      let v = 0n;
      for (let i = s - 1; i >= 0; i--) v = (v << 8n) | BigInt(arena.bytes[o + i]!);
      return signed ? u(BigInt.asIntN(s * 8, v)) : v;
    };
    const store = (a: bigint, s: number, v: bigint): void => {
      const o = arena.offset(a, s);
      for (let i = 0; i < s; i++) arena.bytes[o + i] = Number((v >> BigInt(8 * i)) & 255n);
    };
    for (let pc = 0, steps = 0; ; ) {
      if (++steps > 1e6) throw new Error(`${name} runs away`);
      const i = insns[pc++]!;
      switch (i.kind) {
        case 'exit':
          return u(r[0]!);
        case 'wide':
          break;
        case 'goto':
          pc += i.offset;
          break;
        case 'loadImm64':
          r[i.dst] = u(i.value);
          break;
        case 'runContext':
          r[i.dst] = runContext;
          break;
        case 'callRoutine':
          r[0] = run(i.routine, r.slice(1, 6), top - 512n);
          for (let x = 1; x < 6; x++) r[x] = 0xbadn;
          break;
        case 'load':
          r[i.dst] = load(r[i.src]! + BigInt(i.offset), i.size, i.signed);
          break;
        case 'store':
          store(r[i.dst]! + BigInt(i.offset), i.size, i.src === undefined ? u(BigInt(i.imm)) : r[i.src]!);
          break;
        case 'atomic': {
          const bits = i.size * 8;
          if (i.op === 'loadAcquire') {
            r[i.dst] = load(r[i.src]! + BigInt(i.offset), i.size);
            break;
          }
          const a = r[i.dst]! + BigInt(i.offset);
          const old = i.op === 'storeRelease' ? 0n : load(a, i.size);
          const v = BigInt.asUintN(bits, r[i.src]!);
          if (i.op === 'cmpxchg') {
            if (old === BigInt.asUintN(bits, r[0]!)) store(a, i.size, v);
            r[0] = old;
            break;
          }
          store(
            a,
            i.size,
            i.op === 'add'
              ? old + v
              : i.op === 'or'
                ? old | v
                : i.op === 'and'
                  ? old & v
                  : i.op === 'xor'
                    ? old ^ v
                    : v,
          );
          if (i.fetch) r[i.src] = old;
          break;
        }
        case 'alu': {
          const bits = i.width;
          const b = BigInt.asUintN(bits, i.src === undefined ? BigInt(i.imm) : r[i.src]!);
          const a = BigInt.asUintN(bits, r[i.dst]!);
          const sh = b & BigInt(bits - 1);
          const v =
            i.op === 'add'
              ? a + b
              : i.op === 'sub'
                ? a - b
                : i.op === 'mul'
                  ? a * b
                  : i.op === 'div'
                    ? b
                      ? a / b
                      : 0n
                    : i.op === 'mod'
                      ? b
                        ? a % b
                        : a
                      : i.op === 'or'
                        ? a | b
                        : i.op === 'and'
                          ? a & b
                          : i.op === 'xor'
                            ? a ^ b
                            : i.op === 'lsh'
                              ? a << sh
                              : i.op === 'rsh'
                                ? a >> sh
                                : i.op === 'arsh'
                                  ? BigInt.asIntN(bits, a) >> sh
                                  : i.op === 'neg'
                                    ? -a
                                    : i.op === 'mov'
                                      ? b
                                      : undefined;
          if (v === undefined) throw new Error(i.op);
          r[i.dst] = BigInt.asUintN(bits, v);
          break;
        }
        case 'jump': {
          const bits = i.width;
          const b = BigInt.asUintN(bits, i.src === undefined ? BigInt(i.imm) : r[i.src]!);
          const a = BigInt.asUintN(bits, r[i.dst]!);
          const [sa, sb] = [BigInt.asIntN(bits, a), BigInt.asIntN(bits, b)];
          const t = {
            eq: a === b,
            ne: a !== b,
            gt: a > b,
            ge: a >= b,
            lt: a < b,
            le: a <= b,
            set: (a & b) !== 0n,
            sgt: sa > sb,
            sge: sa >= sb,
            slt: sa < sb,
            sle: sa <= sb,
          }[i.op];
          if (t) pc += i.offset;
          break;
        }
        default:
          throw new Error(i.kind);
      }
    }
  };
  return { call: (name, ...args) => run(name, args, stackTop) };
}
