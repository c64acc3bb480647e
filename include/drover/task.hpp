#pragma once
/// Typed tasks. A task function is a plain function that runs in a worker process; `task<"name", &function>` names it so that
/// the re-executed binary finds it again. Give every task to `drover::init` in main.
///
///   struct Deal { std::uint64_t hand; std::uint32_t iterations; };          // trivially copyable: nothing more to write
///   double solve(const Deal& deal, drover::Context& cx);                   // or drover::Result<double>
///   inline constexpr auto solve_task = drover::task<"solve", &solve>;
///
/// Types that travel: trivially copyable ones, std::string, std::vector of trivially copyable, Bytes, and any type with a
/// `drover::Codec<T>` specialisation. What comes from a worker is untrusted: decode must check everything it reads.

#include <algorithm>
#include <concepts>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "drover/context.hpp"

namespace drover {

/// Specialise for your own type:
///   static std::size_t size(const T&);                        exact number of bytes
///   static void encode(const T&, std::span<std::byte> out);   out.size() == size(value)
///   static Result<T> decode(BytesView bytes);                 refuse what you did not write (ErrorCode::corrupt)
template <class T>
struct Codec;

template <class T>
concept Encodable = requires(const T& value, std::span<std::byte> out, BytesView in) {
  { Codec<T>::size(value) } -> std::convertible_to<std::size_t>;
  Codec<T>::encode(value, out);
  { Codec<T>::decode(in) } -> std::same_as<Result<T>>;
};

template <class T>
  requires(std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>)
struct Codec<T> {
  static constexpr std::size_t size(const T&) { return std::is_empty_v<T> ? 0 : sizeof(T); }
  static void encode(const T& value, std::span<std::byte> out) {
    if (!out.empty()) std::memcpy(out.data(), &value, out.size());
  }
  static Result<T> decode(BytesView bytes) {
    T value{};
    if (bytes.size() != size(value)) return fail(ErrorCode::corrupt, "a value of " + std::to_string(size(value)) + " bytes came as " + std::to_string(bytes.size()));
    if (!bytes.empty()) std::memcpy(static_cast<void*>(&value), bytes.data(), bytes.size());
    return value;
  }
};

template <class C>
concept TrivialSequence = (std::same_as<C, std::string> || std::same_as<C, std::vector<typename C::value_type>>) &&
                          std::is_trivially_copyable_v<typename C::value_type>;
template <TrivialSequence C>
struct Codec<C> {
  using Value = typename C::value_type;
  static std::size_t size(const C& value) { return value.size() * sizeof(Value); }
  static void encode(const C& value, std::span<std::byte> out) {
    if (!out.empty()) std::memcpy(out.data(), value.data(), out.size());
  }
  static Result<C> decode(BytesView bytes) {
    if (bytes.size() % sizeof(Value) != 0) return fail(ErrorCode::corrupt, "a sequence came with a broken last element");
    if constexpr (sizeof(Value) == 1) {  // no alignment to mind: one pass over the bytes, not two
      const auto* const begin = reinterpret_cast<const Value*>(bytes.data());
      return C(begin, begin + bytes.size());
    }
    C value(bytes.size() / sizeof(Value), Value{});
    if (!bytes.empty()) std::memcpy(value.data(), bytes.data(), bytes.size());
    return value;
  }
};

/// The untyped form every task function is turned into; also the way to write one by hand: read `input` in place, write the
/// result in place. `state` is what `start` returned for this worker, or null.
struct TaskFunction {
  using Run = Result<void> (*)(BytesView input, ResultWriter& result, Context& context, void* state);
  using Start = Result<std::shared_ptr<void>> (*)(Context& context);
  std::string_view name;
  Run run = nullptr;
  Start start = nullptr;  ///< makes the worker's state before its first task of this function; null = stateless
};

template <std::size_t N>
struct FixedString {
  char text[N]{};
  constexpr FixedString(const char (&s)[N]) { std::copy_n(s, N, text); }  // NOLINT: implicit on purpose, task<"name", f>
  constexpr std::string_view view() const { return {text, N - 1}; }
};

/// A task function with the types of its input and result.
template <class In, class Out>
struct Task {
  using Input = In;
  using Output = Out;
  const TaskFunction* function = nullptr;
};

namespace detail {
template <class T>
struct Unwrap { using type = T; };
template <class T>
struct Unwrap<Result<T>> { using type = T; };

template <class>
struct Signature;
template <class R, class In>
struct Signature<R (*)(const In&, Context&)> { using Input = In; using Output = typename Unwrap<R>::type; using State = void; };
template <class R, class In, class S>
struct Signature<R (S::*)(const In&, Context&)> { using Input = In; using Output = typename Unwrap<R>::type; using State = S; };

template <class Out>
Result<void> write_result(const Out& value, ResultWriter& result) {
  DROVER_TRY(std::span<std::byte> out, result.reserve(Codec<Out>::size(value)));
  Codec<Out>::encode(value, out);
  return {};
}
template <class Returned>
Result<void> write_returned(Returned&& returned, ResultWriter& result) {
  if constexpr (requires { returned.error(); }) {
    if (!returned) return std::unexpected(std::forward<Returned>(returned).error());
    return write_result(*returned, result);
  } else {
    return write_result(returned, result);
  }
}
template <auto F>
struct Erased {
  using S = Signature<decltype(F)>;
  static Result<void> run(BytesView input, ResultWriter& result, Context& context, void* state) {
    DROVER_TRY(const typename S::Input value, Codec<typename S::Input>::decode(input));
    if constexpr (std::is_void_v<typename S::State>) {
      (void)state;
      return write_returned(F(value, context), result);
    } else {
      return write_returned((static_cast<typename S::State*>(state)->*F)(value, context), result);
    }
  }
  static Result<std::shared_ptr<void>> start(Context& context) {
    DROVER_TRY(auto state, S::State::start(context));
    return std::shared_ptr<void>(std::make_shared<typename S::State>(std::move(state)));
  }
};
template <FixedString Name, auto F>
inline constexpr TaskFunction function_of{Name.view(), &Erased<F>::run, nullptr};
template <FixedString Name, auto F>
inline constexpr TaskFunction stateful_function_of{Name.view(), &Erased<F>::run, &Erased<F>::start};
}  // namespace detail

/// `Out f(const In&, Context&)` or `Result<Out> f(const In&, Context&)`. A thrown exception and an Error both end as app_error.
template <FixedString Name, auto F>
inline constexpr Task<typename detail::Signature<decltype(F)>::Input, typename detail::Signature<decltype(F)>::Output> task{
    &detail::function_of<Name, F>};

/// The stateful form: `Out State::run(const In&, Context&)`; `static Result<State> State::start(Context&)` runs once in each
/// worker before its first task of this function. State must be movable; it dies with the worker, without destructor when killed.
template <FixedString Name, auto F>
inline constexpr Task<typename detail::Signature<decltype(F)>::Input, typename detail::Signature<decltype(F)>::Output> stateful_task{
    &detail::stateful_function_of<Name, F>};

}  // namespace drover
