/*
 * Assembly text to instructions: LLVM's BPF syntax, as `llvm-objdump -d` prints and clang accepts it, and:
 *
 *   call 12              a helper, by number, or by name where `helpers` has it
 *   call label, call +3  a subprogram
 *   call kfunc[123@4 bpf_foo]                     a kernel function: BTF id, module's index, name (the last two optional)
 *   r1 = map[NAME] ll, map_value[NAME]+8 ll       a map, or the inside of its first value, by name
 *   r1 = func[label] ll                           a subprogram as a callback
 *   r1 = kfunc[bpf_foo] ll                        address of a kernel function
 *   r1 = map_fd[3] ll, map_fd_value[3]+8 ll, map_index[0] ll, map_index_value[0]+8 ll, btf_id[5, 0] ll
 *   r0 = *(u8 *)skb[r1 + 2]                       LLVM cannot say this offset
 *
 * A name in brackets that is not a plain word is written as a JSON string. Numbers are decimal or hexadecimal; a 32-bit
 * immediate goes from -2^31 to 2^32-1 and is kept as int32.
 *
 * `;` starts a comment, as in objdump's listings, while in LLVM's input it separates statements. Text that means both
 * is refused: what follows a `;` behind an instruction must not be an instruction itself.
 *
 * The internal dialect (option `internal`) adds what only lowering and trusted routines use: `r2 = run_context`,
 * `call routine NAME`, `call service NAME`, `callx r3`, `tail_call 5`, `load_fence`, the register `ax` (32-bit form
 * `wax`), and `r1 = map_address[0] ll`, `r1 = map_value_address[0]+8 ll`.
 *
 * One statement per line; a hand-written descent over its tokens. Labels are resolved when all statements are read.
 */
import { check } from '../arguments.ts';
import { IsaError, type IsaErrorCode } from './errors.ts';
import type { Atomic, Instruction, Reference, Register, Size, Width } from './instruction.ts';
import { type Token, tokenize } from './lexer.ts';
import { ALU_SYMBOLS, ATOMIC_SYMBOLS, bySpelling, JUMP_SYMBOLS } from './syntax.ts';
import { wellFormed } from './well-formed.ts';

export interface AssembleOptions {
  /** Accept the internal dialect. */
  readonly internal?: boolean;
  /** Helper numbers by name, for `call bpf_map_lookup_elem`. */
  readonly helpers?: Readonly<Record<string, number>>;
}

interface RegisterOperand {
  readonly register: Register;
  readonly width: Width;
}

interface Address {
  readonly base: Register;
  readonly offset: number;
}

/** A jump's target: slots relative to the next, or a label. */
type Target = number | Token;

/** An instruction that waits for the place of a label. */
interface Pending {
  readonly kind: 'pending';
  readonly label: Token;
  /** What the distance must fit. */
  readonly range: Range;
  readonly make: (offset: number) => Instruction;
}
type Statement = Instruction | Pending;

const ALU_BY_SYMBOL = bySpelling(ALU_SYMBOLS);
const JUMP_BY_SYMBOL = bySpelling(JUMP_SYMBOLS);
const ATOMIC_BY_SYMBOL = bySpelling(ATOMIC_SYMBOLS);

const REGISTER = /^(?:([rw])(\d|10)|(w?)ax)$/;
const TYPE = /^([us])(8|16|32|64)$/;
const FETCH = /^atomic_fetch_(add|or|and|xor)$/;
const BYTE_SWAP = /^(le|be|bswap)(16|32|64)$/;

const INT16 = { min: -0x8000n, max: 0x7fffn };
const INT32 = { min: -0x80000000n, max: 0x7fffffffn };
const UINT32 = { min: 0n, max: 0xffffffffn };
const IMM32 = { min: INT32.min, max: UINT32.max };
const IMM64 = { min: -(1n << 63n), max: (1n << 64n) - 1n };
type Range = { readonly min: bigint; readonly max: bigint };

function fail(code: IsaErrorCode, token: Token, expected: string, message?: string): never {
  const found = token.type === 'end' ? token.text : JSON.stringify(token.text);
  const { line, column } = token;
  throw new IsaError(code, `line ${line}, column ${column}: ${message ?? `expected ${expected}, found ${found}`}`, {
    line,
    column,
    expected,
    found: token.text,
  });
}

class Assembler {
  readonly insns: Instruction[] = [];
  private readonly internal: boolean;
  private readonly helpers: Readonly<Record<string, number>>;
  private readonly labels = new Map<string, number>();
  private readonly fixups: { slot: number; pending: Pending }[] = [];
  private tokens: readonly Token[] = [];
  private position = 0;

  constructor(options: AssembleOptions) {
    this.internal = options.internal ?? false;
    this.helpers = options.helpers ?? {};
  }

  // -------------------------------------------------------------- tokens

  private peek(ahead = 0): Token {
    return this.tokens[Math.min(this.position + ahead, this.tokens.length - 1)]!;
  }

  private next(): Token {
    const token = this.peek();
    this.position++;
    return token;
  }

  /** Takes the next token if it is this word or symbol. */
  private take(text: string): boolean {
    const { type, text: found } = this.peek();
    if ((type !== 'word' && type !== 'symbol') || found !== text) return false;
    this.position++;
    return true;
  }

  private expect(...texts: string[]): void {
    for (const text of texts) {
      if (!this.take(text)) fail('assembly_syntax', this.peek(), JSON.stringify(text));
    }
  }

  private isRegister(token: Token): boolean {
    return token.type === 'word' && REGISTER.test(token.text);
  }

  private register(width?: Width): RegisterOperand {
    const token = this.next();
    const expected =
      width === undefined ? 'a register' : width === 64 ? 'a register r0 to r10' : 'a register w0 to w10';
    const match = token.type === 'word' ? REGISTER.exec(token.text) : null;
    if (match === null) return fail('assembly_syntax', token, expected);
    const [, form, number, wideForm] = match;
    if (number === undefined && !this.internal) {
      return fail('invalid_register', token, expected, `register ${token.text} belongs to the internal dialect`);
    }
    const operand: RegisterOperand = {
      register: (number === undefined ? 11 : Number(number)) as Register,
      width: form === 'w' || wideForm === 'w' ? 32 : 64,
    };
    if (width !== undefined && operand.width !== width) return fail('assembly_syntax', token, expected);
    return operand;
  }

  /** A number with an optional sign before it. */
  private number(range: Range, what: string): bigint {
    const first = this.peek();
    const negative = this.take('-');
    if (!negative) this.take('+');
    const token = this.next();
    if (token.type !== 'number') return fail('assembly_syntax', token, what);
    return this.inRange(first, (negative ? -1n : 1n) * BigInt(token.text), range, what);
  }

  private inRange(at: Token, value: bigint, range: Range, what: string): bigint {
    if (value >= range.min && value <= range.max) return value;
    const expected = `${what} from ${range.min} to ${range.max}`;
    const digits = String(value);
    const found = digits.length > 24 ? `a number of ${digits.length} digits` : digits;
    return fail('out_of_range', at, expected, `${found} is out of range: expected ${expected}`);
  }

  private imm32(): number {
    return Number(BigInt.asIntN(32, this.number(IMM32, 'a 32-bit number')));
  }

  // -------------------------------------------------------------- operands

  /** `u32 *` between parentheses, the first of which may be taken already. */
  private pointerType(): { size: Size; signed: boolean; token: Token } {
    this.expect('(');
    const token = this.next();
    const match = TYPE.exec(token.text);
    if (match === null) return fail('assembly_syntax', token, 'a type such as u32');
    this.expect('*', ')');
    return { size: (Number(match[2]) / 8) as Size, signed: match[1] === 's', token };
  }

  private unsignedType(): Size {
    const { size, signed, token } = this.pointerType();
    if (signed) fail('assembly_syntax', token, 'an unsigned type');
    return size;
  }

  /** `r1 + 4`, `r1 - 4` or `r1`. */
  private address(): Address {
    const base = this.register(64).register;
    const { type, text } = this.peek();
    const signed = type === 'symbol' && (text === '+' || text === '-');
    return { base, offset: signed ? Number(this.number(INT16, 'an offset')) : 0 };
  }

  private parenthesised(): Address {
    this.expect('(');
    const address = this.address();
    this.expect(')');
    return address;
  }

  private target(range: Range): Target {
    const token = this.peek();
    if (token.type === 'word') return this.next();
    if (token.type === 'symbol') return Number(this.number(range, 'a target such as +3 or a label'));
    return fail('assembly_syntax', token, 'a target such as +3 or a label');
  }

  /** Name in brackets: a word or a JSON string. */
  private name(what: string): string {
    const token = this.next();
    if (token.type === 'word') return token.text;
    if (token.type !== 'string') return fail('assembly_syntax', token, what);
    try {
      return JSON.parse(token.text) as string;
    } catch {
      return fail('assembly_syntax', token, 'a JSON string');
    }
  }

  private requireInternal(token: Token): void {
    if (this.internal) return;
    const what = `an instruction of the public instruction set`;
    fail('assembly_syntax', token, what, `${JSON.stringify(token.text)} belongs to the internal dialect`);
  }

  // -------------------------------------------------------------- statements

  private jumpTo(target: Target, range: Range, make: (offset: number) => Instruction): Statement {
    return typeof target === 'number' ? make(target) : { kind: 'pending', label: target, range, make };
  }

  private statement(): Statement {
    const token = this.peek();
    if (this.isRegister(token)) return this.assignment();
    this.next();
    switch (token.text) {
      case '*':
        return this.store();
      case 'if':
        return this.conditional();
      case 'goto':
        return this.jumpTo(this.target(INT16), INT16, offset => ({ kind: 'goto', offset, long: false }));
      case 'gotol':
        return this.jumpTo(this.target(INT32), INT32, offset => ({ kind: 'goto', offset, long: true }));
      case 'may_goto':
        return this.jumpTo(this.target(INT16), INT16, offset => ({ kind: 'mayGoto', offset }));
      case 'call':
        return this.call();
      case 'exit':
        return { kind: 'exit' };
      case 'lock':
        return this.lock();
      case 'store_release':
        return this.storeRelease();
      case 'callx':
        this.requireInternal(token);
        return { kind: 'callIndirect', register: this.register(64).register };
      case 'load_fence':
        this.requireInternal(token);
        return { kind: 'loadFence' };
      case 'tail_call':
        this.requireInternal(token);
        return { kind: 'tailCall', imm: Number(this.number(UINT32, 'a packed immediate')) };
      default:
        return fail('assembly_syntax', token, 'an instruction or a label');
    }
  }

  private store(): Statement {
    const size = this.unsignedType();
    const { base: dst, offset } = this.parenthesised();
    this.expect('=');
    if (this.isRegister(this.peek())) {
      const src = this.register(size === 8 ? 64 : undefined).register;
      return { kind: 'store', size, dst, offset, src, imm: 0 };
    } else {
      return { kind: 'store', size, dst, offset, src: undefined, imm: this.imm32() };
    }
  }

  private conditional(): Statement {
    const { register: dst, width } = this.register();
    const token = this.next();
    const op = JUMP_BY_SYMBOL.get(token.text);
    if (op === undefined) return fail('assembly_syntax', token, 'a comparison');
    const src = this.isRegister(this.peek()) ? this.register(width).register : undefined;
    const imm = src === undefined ? this.imm32() : 0;
    this.expect('goto');
    return this.jumpTo(this.target(INT16), INT16, offset => ({ kind: 'jump', op, width, dst, src, imm, offset }));
  }

  private call(): Statement {
    const token = this.peek();
    if (token.type === 'number') {
      return { kind: 'callHelper', helper: this.imm32() };
    }
    if (token.type === 'symbol') {
      const offset = Number(this.number(INT32, 'a helper number, a name, or a target such as +3'));
      return { kind: 'callSubprogram', offset };
    }
    const after = this.peek(1);
    if (token.text === 'kfunc' && after.text === '[') return this.callKfunc();
    if ((token.text === 'routine' || token.text === 'service') && after.type === 'word') {
      this.requireInternal(this.next());
      const name = this.next().text;
      return token.text === 'routine' ? { kind: 'callRoutine', routine: name } : { kind: 'callService', service: name };
    }
    if (token.type === 'word' && Object.hasOwn(this.helpers, token.text)) {
      return { kind: 'callHelper', helper: this.helpers[this.next().text]! };
    }
    return this.jumpTo(this.target(INT32), INT32, offset => ({ kind: 'callSubprogram', offset }));
  }

  private callKfunc(): Statement {
    this.expect('kfunc', '[');
    const btfId = this.imm32();
    const module = this.take('@') ? Number(this.number(INT16, "a module's index")) : 0;
    const name = this.peek().text === ']' ? undefined : this.name('the name of the function');
    this.expect(']');
    return { kind: 'callKfunc', btfId, module, ...(name === undefined ? {} : { name }) };
  }

  private lock(): Statement {
    this.expect('*');
    const size = this.unsignedType();
    const { base: dst, offset } = this.parenthesised();
    const token = this.next();
    const op = ATOMIC_BY_SYMBOL.get(token.text);
    if (op === undefined) return fail('assembly_syntax', token, 'one of += |= &= ^=');
    const src = this.register(size === 8 ? 64 : undefined).register;
    return this.wideAtomic(token, { kind: 'atomic', op, fetch: false, size, dst, src, offset });
  }

  private wideAtomic(token: Token, insn: Atomic): Atomic {
    if (insn.size < 4) fail('assembly_syntax', token, 'a 4- or 8-byte atomic', 'atomics work on u32 and u64 only');
    return insn;
  }

  private storeRelease(): Statement {
    this.expect('(');
    const size = this.unsignedType();
    const { base: dst, offset } = this.parenthesised();
    this.expect(',');
    const src = this.register(size === 8 ? 64 : 32).register;
    this.expect(')');
    return { kind: 'atomic', op: 'storeRelease', fetch: false, size, dst, src, offset };
  }

  /** Everything that begins with a register. */
  private assignment(): Statement {
    const { register: dst, width } = this.register();
    const token = this.next();
    const op = ALU_BY_SYMBOL.get(token.text);
    if (op === undefined) return fail('assembly_syntax', token, 'an assignment operator');
    const operand = this.peek();
    if (this.isRegister(operand)) {
      return { kind: 'alu', op, width, dst, src: this.register(width).register, imm: 0 };
    }
    if ((op === 'add' || op === 'sub') && operand.type === 'word') return this.aluAddress(op, dst, width);
    if (op !== 'mov' || operand.type === 'end') {
      return { kind: 'alu', op, width, dst, src: undefined, imm: this.imm32() };
    }
    if (operand.type === 'word') return this.assignWord(dst, width, this.next());
    if (operand.text === '(') return this.moveSigned(dst, width);
    if (operand.text === '*') return this.load(dst, width);
    if (operand.text === '-' && this.isRegister(this.peek(1))) {
      this.expect('-');
      this.sameRegister(dst, width);
      return { kind: 'alu', op: 'neg', width, dst, src: undefined, imm: 0 };
    }
    return this.assignNumber(dst, width);
  }

  private assignNumber(dst: Register, width: Width): Statement {
    const start = this.peek();
    const value = this.number(IMM64, 'a number');
    if (this.peek().text === 'll') {
      this.requireWidth(width, 64, start);
      this.expect('ll');
      return { kind: 'loadImm64', dst, value: BigInt.asUintN(64, value), reference: undefined };
    }
    const imm = Number(
      BigInt.asIntN(32, this.inRange(start, value, IMM32, 'a 32-bit number (or one that ll follows)')),
    );
    return { kind: 'alu', op: 'mov', width, dst, src: undefined, imm };
  }

  private requireWidth(width: Width, wanted: Width, token: Token): void {
    if (width === wanted) return;
    const expected = `a ${wanted}-bit destination (${wanted === 64 ? 'r0' : 'w0'} style)`;
    fail('assembly_syntax', token, expected, `${JSON.stringify(token.text)} needs ${expected}`);
  }

  /** The operand of an instruction whose source and destination are one register. */
  private sameRegister(dst: Register, width: Width): void {
    const token = this.peek();
    const operand = this.register(width);
    if (operand.register !== dst) fail('assembly_syntax', token, 'the destination register again');
  }

  private moveSigned(dst: Register, width: Width): Statement {
    this.expect('(');
    const token = this.next();
    const from = { s8: 8, s16: 16, s32: 32 }[token.text] as 8 | 16 | 32 | undefined;
    if (from === undefined) return fail('assembly_syntax', token, 's8, s16 or s32');
    if (from === 32) this.requireWidth(width, 64, token);
    this.expect(')');
    return { kind: 'movsx', width, from, dst, src: this.register(width).register };
  }

  private load(dst: Register, width: Width): Statement {
    this.expect('*');
    const { size, signed, token } = this.pointerType();
    if (this.take('skb')) return this.packetLoad(dst, width, size, signed, token);
    if (signed && size === 8) fail('assembly_syntax', token, 'u8 to u64, s8, s16 or s32');
    if (signed || size === 8) this.requireWidth(width, 64, token);
    const { base: src, offset } = this.parenthesised();
    return { kind: 'load', size, signed, dst, src, offset };
  }

  private packetLoad(dst: Register, width: Width, size: Size, signed: boolean, token: Token): Statement {
    if (dst !== 0 || width !== 64) fail('assembly_syntax', token, 'r0', 'a packet load goes to r0');
    if (signed || size === 8) return fail('assembly_syntax', token, 'u8, u16 or u32');
    this.expect('[');
    let src: Register | undefined;
    let imm = 0;
    if (this.isRegister(this.peek())) {
      src = this.register(64).register;
      if (this.peek().text !== ']') {
        const sign = this.peek();
        if (sign.text !== '+' && sign.text !== '-') fail('assembly_syntax', sign, '"+", "-" or "]"');
        imm = this.imm32();
      }
    } else {
      imm = this.imm32();
    }
    this.expect(']');
    return { kind: 'packetLoad', size, src, imm };
  }

  /** An assignment whose right side begins with a word that is not a register. */
  private assignWord(dst: Register, width: Width, token: Token): Statement {
    const swap = BYTE_SWAP.exec(token.text);
    if (swap !== null) {
      this.requireWidth(width, 64, token);
      this.sameRegister(dst, 64);
      const order = swap[1] === 'bswap' ? 'swap' : (swap[1] as 'le' | 'be');
      return { kind: 'byteswap', order, size: Number(swap[2]) as 16 | 32 | 64, dst };
    }
    const fetch = FETCH.exec(token.text);
    if (fetch !== null) return this.atomicFetch(dst, width, token, fetch[1] as 'add' | 'or' | 'and' | 'xor');
    switch (token.text) {
      case 'xchg_64':
      case 'xchg32_32':
        return this.exchange(dst, width, token, false);
      case 'cmpxchg_64':
      case 'cmpxchg32_32':
        return this.exchange(dst, width, token, true);
      case 'load_acquire': {
        this.expect('(');
        const size = this.unsignedType();
        this.requireWidth(width, size === 8 ? 64 : 32, token);
        const { base: src, offset } = this.parenthesised();
        this.expect(')');
        return { kind: 'atomic', op: 'loadAcquire', fetch: false, size, dst, src, offset };
      }
      case 'addr_space_cast':
        return this.addrSpaceCast(dst, width, token);
      case 'run_context':
        this.requireInternal(token);
        this.requireWidth(width, 64, token);
        return { kind: 'runContext', dst };
      default:
        return this.reference(dst, width, token);
    }
  }

  private atomicFetch(dst: Register, width: Width, token: Token, op: 'add' | 'or' | 'and' | 'xor'): Statement {
    this.expect('(');
    const size = this.unsignedType();
    const { base, offset } = this.parenthesised();
    this.requireWidth(width, size === 8 ? 64 : 32, token);
    this.expect(',');
    this.sameRegister(dst, width);
    this.expect(')');
    return this.wideAtomic(token, { kind: 'atomic', op, fetch: true, size, dst: base, src: dst, offset });
  }

  /** `r2 = xchg_64(r1 + 0, r2)`, `r0 = cmpxchg_64(r1 + 0, r0, r2)`. */
  private exchange(dst: Register, width: Width, token: Token, compare: boolean): Statement {
    const size = token.text.endsWith('_64') ? 8 : 4;
    this.requireWidth(width, size === 8 ? 64 : 32, token);
    this.expect('(');
    const { base, offset } = this.address();
    this.expect(',');
    if (compare) {
      if (dst !== 0) fail('assembly_syntax', token, 'r0 or w0', 'a compare-and-exchange compares with r0');
      this.sameRegister(0, width);
      this.expect(',');
      const src = this.register(width).register;
      this.expect(')');
      return { kind: 'atomic', op: 'cmpxchg', fetch: true, size, dst: base, src, offset };
    }
    this.sameRegister(dst, width);
    this.expect(')');
    return { kind: 'atomic', op: 'xchg', fetch: true, size, dst: base, src: dst, offset };
  }

  private addrSpaceCast(dst: Register, width: Width, token: Token): Statement {
    const space = { min: 0n, max: 1n };
    this.requireWidth(width, 64, token);
    this.expect('(');
    const src = this.register(64).register;
    this.expect(',');
    const toSpace = Number(this.number(space, 'an address space'));
    this.expect(',');
    const fromSpace = Number(this.number(space, 'an address space'));
    if (toSpace === fromSpace) fail('assembly_syntax', token, 'a cast between address spaces 0 and 1');
    this.expect(')');
    return { kind: 'addrSpaceCast', dst, src, toSpace, fromSpace };
  }

  /** `map[NAME] ll` and the like. */
  private reference(dst: Register, width: Width, token: Token): Statement {
    if (this.peek().text !== '[') {
      fail('assembly_syntax', token, 'a register, a number, a memory operand or a reference such as map[NAME]');
    }
    this.requireWidth(width, 64, token);
    this.expect('[');
    if (token.text === 'func') return this.functionReference(dst);
    const reference = this.bracketed(token);
    this.expect('ll');
    return { kind: 'loadImm64', dst, value: 0n, reference };
  }

  /** `ax += map_value_address[0]+0 ll` */
  private aluAddress(op: 'add' | 'sub', dst: Register, width: Width): Statement {
    const token = this.next();
    if (token.text !== 'map_value_address') fail('assembly_syntax', token, 'a register or a number');
    this.expect('[');
    const reference = this.bracketed(token);
    this.expect('ll');
    if (reference.type !== 'mapValueAddress') return fail('assembly_syntax', token, 'a register or a number');
    return { kind: 'aluAddress', op, width, dst, reference };
  }

  private functionReference(dst: Register): Statement {
    const target = this.target(INT32);
    this.expect(']', 'll');
    return this.jumpTo(target, INT32, offset => ({
      kind: 'loadImm64',
      dst,
      value: 0n,
      reference: { type: 'function', offset },
    }));
  }

  private bracketed(token: Token): Reference {
    const int32 = (what: string): number => Number(this.number(INT32, what));
    const close = (): void => this.expect(']');
    /** `]+OFFSET` */
    const closeWithOffset = (): number => {
      this.expect(']', '+');
      return Number(this.number(UINT32, 'an offset'));
    };
    switch (token.text) {
      case 'map': {
        const map = this.name("a map's name");
        close();
        return { type: 'map', map };
      }
      case 'map_value': {
        const map = this.name("a map's name");
        return { type: 'mapValue', map, offset: closeWithOffset() };
      }
      case 'kfunc': {
        const name = this.name('the name of the function');
        close();
        return { type: 'kfunc', name };
      }
      case 'map_fd': {
        const fd = int32('a file descriptor');
        close();
        return { type: 'mapFd', fd };
      }
      case 'map_fd_value': {
        const fd = int32('a file descriptor');
        return { type: 'mapFdValue', fd, offset: closeWithOffset() };
      }
      case 'map_index': {
        const index = int32('an index');
        close();
        return { type: 'mapIndex', index };
      }
      case 'map_index_value': {
        const index = int32('an index');
        return { type: 'mapIndexValue', index, offset: closeWithOffset() };
      }
      case 'btf_id': {
        const id = int32('a BTF id');
        this.expect(',');
        const fd = int32('a file descriptor');
        close();
        return { type: 'btfId', id, fd };
      }
      case 'map_address': {
        this.requireInternal(token);
        const index = int32('an index');
        close();
        return { type: 'mapAddress', index };
      }
      case 'map_value_address': {
        this.requireInternal(token);
        const index = int32('an index');
        return { type: 'mapValueAddress', index, offset: closeWithOffset() };
      }
      default:
        return fail('assembly_syntax', token, 'a reference such as map[NAME]');
    }
  }

  // -------------------------------------------------------------- whole text

  assembleLine(tokens: readonly Token[]): void {
    this.tokens = tokens;
    this.position = 0;
    while (this.peek().type === 'word' && this.peek(1).text === ':') {
      const label = this.next();
      this.expect(':');
      if (this.labels.has(label.text) || Object.hasOwn(this.helpers, label.text)) {
        fail('duplicate_label', label, 'a new label', `${label.text} already names another place or a helper`);
      }
      this.labels.set(label.text, this.insns.length);
    }
    if (this.peek().type === 'end') return;
    this.emit(this.statement());
    if (this.peek().type !== 'end') fail('assembly_syntax', this.peek(), 'the end of the line');
  }

  private emit(statement: Statement): void {
    if (statement.kind === 'pending') this.fixups.push({ slot: this.insns.length, pending: statement });
    const insn = statement.kind === 'pending' ? statement.make(0) : statement;
    this.insns.push(insn);
    if (insn.kind === 'loadImm64') this.insns.push({ kind: 'wide' });
  }

  assemble(text: string): Instruction[] {
    for (const { tokens, semicolonComment } of tokenize(text)) {
      this.assembleLine(tokens);
      if (isStatement(semicolonComment)) {
        const end = tokens.at(-1)!;
        const message = '";" starts a comment, but an instruction follows it: put each instruction on its own line';
        fail('assembly_syntax', end, 'one instruction per line', message);
      }
    }
    for (const { slot, pending } of this.fixups) {
      const { label, range, make } = pending;
      const at = this.labels.get(label.text);
      if (at === undefined) {
        fail('unknown_label', label, 'a label', `no label ${label.text} here, and no helper given by that name`);
      }
      const offset = at - slot - 1;
      this.inRange(label, BigInt(offset), range, 'a distance in slots');
      this.insns[slot] = make(offset);
    }
    return this.insns;
  }
}

/** Would this text be an instruction (of the internal dialect too)? */
function isStatement(text: string): boolean {
  if (text.trim() === '') return false;
  try {
    const line = tokenize(text)[0];
    if (line === undefined) return false;
    const assembler = new Assembler({ internal: true });
    assembler.assembleLine(line.tokens);
    return assembler.insns.length > 0;
  } catch (error) {
    if (error instanceof IsaError) return false;
    throw error;
  }
}

/**
 * Instructions from assembly text, one element per slot.
 *
 * @throws IsaError with `details: {line, column, expected, found}`: `assembly_syntax`, `out_of_range`,
 *   `invalid_register`, `unknown_label`, `duplicate_label`.
 */
export function assemble(text: string, options: AssembleOptions = {}): Instruction[] {
  check.string(text, 'text');
  check.options({ internal: check.boolean, helpers: check.record({}) })(options, 'options');
  const insns = new Assembler(options).assemble(text);
  return options.internal === true ? insns : wellFormed(insns);
}
