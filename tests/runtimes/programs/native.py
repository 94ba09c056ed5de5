"""Languages that are compiled to machine code."""

from runtimes.programs.language import Language

C = Language(
    name="c",
    packages="gcc libc6-dev",
    runtime="gcc",
    hello=r"""
#include <stdio.h>
int main(int argc, char **argv) {
    char line[80];
    printf("hello %s|%s\n", argv[1], argv[2]);
    fputs(fgets(line, sizeof line, stdin), stdout);
    return argc;
}
""",
    error=r"""
#include <stdio.h>
#include <stdlib.h>
int main() { fputs("bad\n", stderr); abort(); }
""",
    says="bad",
    signaled=True,
    broken="int main() { return unknown; }",
    complains="undeclared (first use in this function)",
    loop='#include <stdio.h>\nint main() { fputs("looping\\n", stderr); for (;;) ; }',
    hog=r"""
#include <stdlib.h>
#include <string.h>
char *volatile last;
int main() { for (;;) { last = malloc(1 << 20); memset(last, 1, 1 << 20); } }
""",
)

CPP = Language(
    name="c++",
    packages="g++",
    runtime="gcc",
    hello=r"""
#include <iostream>
#include <string>
int main(int argc, char **argv) {
    std::string line;
    std::getline(std::cin, line);
    std::cout << "hello " << argv[1] << "|" << argv[2] << "\n" << line << std::endl;
    return argc;
}
""",
    error='#include <stdexcept>\nint main() { throw std::runtime_error("bad"); }',
    says="what():  bad",
    signaled=True,
    broken="int main() { return unknown; }",
    complains="was not declared in this scope",
    loop=r"""
#include <cstdio>
int main() { std::fputs("looping\n", stderr); for (;;) std::fflush(stdout); }
""",
    hog="""
#include <vector>
int main() { std::vector<std::vector<char>> all; for (;;) all.emplace_back(1 << 20, 1); }
""",
)

FORTRAN = Language(
    name="fortran",
    packages="gfortran",
    runtime="gcc",
    hello="""
program hello
    character(80) :: a, b, line
    call get_command_argument(1, a)
    call get_command_argument(2, b)
    print '(4a)', 'hello ', trim(a), '|', trim(b)
    read '(a)', line
    print '(a)', trim(line)
    call exit(3)
end
""",
    error="program bad\n    error stop 'bad'\nend\n",
    says="ERROR STOP bad",
    broken="program broken\n    implicit none\n    i = 1\nend\n",
    complains="has no IMPLICIT type",
    loop="""
program looping
    write (0, *) 'looping'
    do
    end do
end
""",
    hog="""
program hog
    real(8), pointer :: block(:)
    do
        allocate(block(131072))
        block = 1
        if (block(command_argument_count() + 1) == 2) exit
    end do
end
""",
)

_D_HELLO = """
import std.stdio;
int main(string[] args) {
    writeln("hello ", args[1], "|", args[2]);
    write(readln());
    return 3;
}
"""
_D_HOG = """
ubyte[][] all;
void main() { for (;;) { all ~= new ubyte[1 << 20]; all[$ - 1][] = 1; } }
"""
_D_LOOP = 'import core.stdc.stdio;\nvoid main() { fputs("looping\\n", stderr); for (;;) {} }'
_D_ERROR = 'void main() { throw new Exception("bad"); }'
_D_BROKEN = "void main() { unknown(); }"

D_GCC = Language(
    name="d",
    packages="gdc",
    runtime="gcc",
    hello=_D_HELLO,
    error=_D_ERROR,
    says="bad",
    broken=_D_BROKEN,
    complains="undefined identifier",
    loop=_D_LOOP,
    hog=_D_HOG,
)

D_LDC = Language(
    name="d",
    packages="ldc",
    runtime="ldc",
    hello=_D_HELLO,
    error=_D_ERROR,
    says="bad",
    broken=_D_BROKEN,
    complains="undefined identifier",
    loop=_D_LOOP,
    hog=_D_HOG,
)

ADA = Language(
    name="ada",
    packages="gnat",
    runtime="gcc",
    hello="""
with Ada.Command_Line, Ada.Text_IO; use Ada.Command_Line, Ada.Text_IO;
procedure Main is
begin
   Put_Line ("hello " & Argument (1) & "|" & Argument (2));
   Put_Line (Get_Line);
   Set_Exit_Status (3);
end Main;
""",
    error="procedure Main is\nbegin\n   raise Constraint_Error;\nend Main;",
    says="CONSTRAINT_ERROR",
    broken="procedure Main is\nbegin\n   Unknown;\nend Main;",
    complains='"Unknown" is undefined',
    loop="""
with Ada.Text_IO; use Ada.Text_IO;
procedure Main is
begin
   Put_Line (Standard_Error, "looping");
   loop null; end loop;
end Main;
""",
    hog="""
procedure Main is
   type Block is array (1 .. 1048576) of Character;
   type Pointer is access Block;
   Last : Pointer with Volatile;
begin
   loop Last := new Block'(others => 'x'); end loop;
end Main;
""",
)

GO = Language(
    name="go",
    packages="golang-go",
    hello="""
package main

import ("bufio"; "fmt"; "os")

func main() {
    fmt.Printf("hello %s|%s\\n", os.Args[1], os.Args[2])
    line, _ := bufio.NewReader(os.Stdin).ReadString('\\n')
    fmt.Print(line)
    os.Exit(3)
}
""",
    error="package main\nfunc main() { var a []int; println(a[len(a)]) }",
    says="panic: runtime error: index out of range",
    broken="package main\nfunc main() { unknown() }",
    complains="undefined: unknown",
    loop='package main\nfunc main() { println("looping"); for {} }',
    hog="""
package main
var all [][]byte
func main() {
    for {
        block := make([]byte, 1<<20)
        for i := range block { block[i] = 1 }
        all = append(all, block)
    }
}
""",
    slow=True,
)

RUST = Language(
    name="rust",
    packages="rustc",
    hello="""
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    println!("hello {}|{}", args[1], args[2]);
    print!("{}", line);
    std::process::exit(3);
}
""",
    error='fn main() { let bad: Option<i32> = None; bad.expect("bad"); }',
    says="panicked at",
    broken="fn main() { unknown(); }",
    complains="cannot find function `unknown`",
    loop='fn main() { eprintln!("looping"); loop {} }',
    hog="fn main() { let mut all = Vec::new(); loop { all.push(vec![1u8; 1 << 20]); } }",
)

OCAML = Language(
    name="ocaml",
    packages="ocaml-nox",
    hello="""
let () =
  Printf.printf "hello %s|%s\\n" Sys.argv.(1) Sys.argv.(2);
  print_endline (read_line ());
  exit 3
""",
    error='let () = failwith "bad"',
    says='Failure("bad")',
    broken="let () = unknown ()",
    complains="Unbound value unknown",
    loop='let () = prerr_endline "looping"; while true do () done',
    hog="""
let () =
  let all = ref [] in
  while true do all := Bytes.make 1048576 'x' :: !all done
""",
)

HASKELL = Language(
    name="haskell",
    packages="ghc",
    hello="""
import System.Environment
import System.Exit
main = do
  [a, b] <- getArgs
  putStrLn ("hello " ++ a ++ "|" ++ b)
  getLine >>= putStrLn
  exitWith (ExitFailure 3)
""",
    error='main = error "bad"',
    says="bad",
    broken="main = unknown",
    complains="Variable not in scope: unknown",
    loop="""
import System.IO
spin :: Int -> IO ()
spin n = if n < 0 then return () else spin ((n + 1) `mod` 1000)
main = hPutStrLn stderr "looping" >> spin 0
""",
    hog="main = let xs = [1 ..] :: [Integer] in print (length xs) >> print (head xs)",
)

PASCAL = Language(
    name="pascal",
    packages="fp-compiler",
    hello="""
var line: string;
begin
  writeln('hello ', paramstr(1), '|', paramstr(2));
  readln(line);
  writeln(line);
  halt(3);
end.
""",
    error="var x: integer;\nbegin\n  x := length(paramstr(9));\n  writeln(1 div x);\nend.\n",
    says="Runtime error 200",
    broken="begin\n  unknown;\nend.\n",
    complains="Identifier not found",
    loop="begin\n  writeln(stderr, 'looping');\n  flush(stderr);\n  while true do;\nend.\n",
    hog="""
var block: pointer;
begin
  while true do begin
    getmem(block, 1048576);
    fillchar(block^, 1048576, 1);
  end;
end.
""",
)

NIM = Language(
    name="nim",
    packages="nim gcc",
    hello="""
import os
echo "hello ", paramStr(1), "|", paramStr(2)
echo readLine(stdin)
quit(3)
""",
    error='raise newException(ValueError, "bad")',
    says="bad [ValueError]",
    broken="unknown()",
    complains="undeclared identifier",
    loop='stderr.writeLine("looping")\nwhile true: discard',
    hog="import strutils\nvar all: seq[string]\nwhile true: all.add repeat('x', 1 shl 20)",
)

CRYSTAL = Language(
    name="crystal",
    packages="crystal",
    hello='puts "hello #{ARGV[0]}|#{ARGV[1]}"\nputs gets\nexit 3',
    error='raise "bad"',
    says="bad (Exception)",
    broken="unknown",
    complains="undefined local variable",
    loop='STDERR.puts "looping"\nwhile true\nend',
    hog="all = [] of Bytes\nloop { all << Bytes.new(1 << 20, 1_u8) }",
    slow=True,
)

VALA = Language(
    name="vala",
    packages="valac",
    hello="""
int main(string[] args) {
    print("hello %s|%s\\n%s\\n", args[1], args[2], stdin.read_line());
    return 3;
}
""",
    error='int main() { error("bad"); }',
    says="bad",
    signaled=True,
    broken="int main() { return unknown; }",
    complains="`unknown' does not exist",
    loop='int main() { printerr("looping\\n"); while (true) { stdout.flush(); } }',
    hog="""
int main() { while (true) { void* block = malloc(1 << 20); Memory.set(block, 1, 1 << 20); } }
""",
)

ZIG = Language(
    name="zig",
    packages="ziglang==0.13.0 (PyPI)",
    hello=r"""
const std = @import("std");
pub fn main() !void {
    var line: [80]u8 = undefined;
    const length = try std.posix.read(0, &line);
    const args = std.os.argv;
    for ([_][]const u8{
        "hello ", std.mem.span(args[1]), "|", std.mem.span(args[2]), "\n", line[0..length],
    }) |text| _ = try std.posix.write(1, text);
    std.process.exit(3);
}
""",
    error='pub fn main() void { @panic("bad"); }',
    says="panic: bad",
    signaled=True,
    broken="pub fn main() void { unknown(); }",
    complains="use of undeclared identifier",
    loop=r"""
const std = @import("std");
pub fn main() void {
    std.debug.print("looping\n", .{});
    while (true) {}
}
""",
    hog="""
const std = @import("std");
pub fn main() !void {
    while (true) @memset(try std.heap.page_allocator.alloc(u8, 1 << 20), 1);
}
""",
    slow=True,
)

COBOL = Language(
    name="cobol",
    packages="gnucobol3",
    hello="""
IDENTIFICATION DIVISION.
PROGRAM-ID. HELLO.
DATA DIVISION.
WORKING-STORAGE SECTION.
01 A PIC X(80).
01 B PIC X(80).
PROCEDURE DIVISION.
    ACCEPT A FROM ARGUMENT-VALUE.
    ACCEPT B FROM ARGUMENT-VALUE.
    DISPLAY "hello " FUNCTION TRIM(A) "|" FUNCTION TRIM(B).
    ACCEPT A.
    DISPLAY FUNCTION TRIM(A).
    STOP RUN RETURNING 3.
""",
    error="""
IDENTIFICATION DIVISION.
PROGRAM-ID. BAD.
PROCEDURE DIVISION.
    CALL "nosuch".
""",
    says="module 'nosuch' not found",
    broken="""
IDENTIFICATION DIVISION.
PROGRAM-ID. BROKEN.
PROCEDURE DIVISION.
    DISPLAY UNKNOWN.
""",
    complains="'UNKNOWN' is not defined",
    loop="""
IDENTIFICATION DIVISION.
PROGRAM-ID. LOOPING.
PROCEDURE DIVISION.
    DISPLAY "looping" UPON SYSERR.
    PERFORM UNTIL 1 = 2 CONTINUE END-PERFORM.
""",
    hog="""
IDENTIFICATION DIVISION.
PROGRAM-ID. HOG.
DATA DIVISION.
WORKING-STORAGE SECTION.
01 P USAGE POINTER.
PROCEDURE DIVISION.
    PERFORM UNTIL 1 = 2
        ALLOCATE 1048576 CHARACTERS INITIALIZED RETURNING P
    END-PERFORM.
""",
)

NASM64 = Language(
    name="nasm64",
    packages="nasm binutils",
    runtime="nasm",
    hello="""
global _start
section .data
hello: db "hello", 10
section .bss
line: resb 80
section .text
_start: mov eax, 1
    mov edi, 1
    mov rsi, hello
    mov edx, 6
    syscall
    xor eax, eax
    xor edi, edi
    mov rsi, line
    mov edx, 80
    syscall
    mov rdx, rax
    mov eax, 1
    mov edi, 1
    mov rsi, line
    syscall
    mov eax, 60
    mov rdi, [rsp]
    syscall
""",
    stdout=b"hello\na line\n",
    error="global _start\nsection .text\n_start: ud2\n",
    says="",
    signaled=True,
    broken="mov eax, unknown\n",
    complains="symbol `unknown' not defined",
    loop="""
global _start
section .data
looping: db "looping", 10
section .text
_start: mov eax, 1
    mov edi, 2
    mov rsi, looping
    mov edx, 8
    syscall
again: jmp again
""",
    hog="""
global _start
section .text
_start: mov eax, 12
    xor edi, edi
    syscall
    mov rbx, rax
again: lea rdi, [rbx + 4096]
    mov eax, 12
    syscall
    mov byte [rbx], 1
    add rbx, 4096
    jmp again
""",
)

IVERILOG = Language(
    name="iverilog",
    packages="iverilog",
    hello="""
module hello;
    reg [8*80:1] line;
    integer length;
    initial begin
        $display("hello");
        length = $fgets(line, 32'h8000_0000);
        $write("%0s", line);
        $finish;
    end
endmodule
""",
    stdout=b"hello\na line\n",
    exit_code=0,
    error="module bad;\n    initial $nosuch;\nendmodule\n",
    says="$nosuch",
    broken="module broken;\n    initial unknown = 1;\nendmodule\n",
    complains="unknown",
    loop="""
module looping;
    initial begin
        $fdisplay(32'h8000_0002, "looping");
        forever begin end
    end
endmodule
""",
    hog="""
module hog;
    reg [31:0] words [0:50000000];
    integer i;
    initial for (i = 0; i <= 50000000; i = i + 1) words[i] = i;
endmodule
""",
)

LANGUAGES = (
    C, CPP, FORTRAN, D_GCC, D_LDC, ADA, GO, RUST, OCAML, HASKELL, PASCAL, NIM, CRYSTAL, VALA, ZIG,
    COBOL, NASM64, IVERILOG,
)  # fmt: skip
