# sbx_warnings: what every C file of ours is compiled with. sbx_hardening: what is installed.
# sbx_sanitizers: what is tested.
include(CheckCCompilerFlag)

add_library(sbx_warnings INTERFACE)
target_compile_options(sbx_warnings INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wvla -Wformat=2 -Wmissing-prototypes -Wstrict-prototypes
  -Wwrite-strings -Wpointer-arith -Wimplicit-fallthrough -Wundef)
target_include_directories(sbx_warnings INTERFACE ${include} ${generated})
if(SBX_ANALYZE)
  target_compile_options(sbx_warnings INTERFACE -fanalyzer)
endif()

add_library(sbx_hardening INTERFACE)
target_compile_options(sbx_hardening INTERFACE
  -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection
  -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing)
foreach(flag -fcf-protection=full -mbranch-protection=standard -ftrivial-auto-var-init=zero)
  string(MAKE_C_IDENTIFIER "HAVE${flag}" have)
  check_c_compiler_flag(${flag} ${have})
  if(${have})
    target_compile_options(sbx_hardening INTERFACE ${flag})
  endif()
endforeach()
target_link_options(sbx_hardening INTERFACE
  -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed)

add_library(sbx_sanitizers INTERFACE)
target_compile_options(sbx_sanitizers INTERFACE -g -fno-omit-frame-pointer)
if(CMAKE_CROSSCOMPILING) # for an emulated machine, without the sanitizers' libraries
  target_compile_options(sbx_sanitizers INTERFACE
    -fsanitize=undefined -fsanitize-undefined-trap-on-error)
else()
  target_compile_options(sbx_sanitizers INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(sbx_sanitizers INTERFACE -fsanitize=address,undefined)
endif()
