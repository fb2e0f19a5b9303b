//! The opcodes that are followed by their value: numbers, texts, bytes.

use super::Parse;
use super::cursor::Cursor;
use super::opcode as op;
use super::value::Value;

/// The value of an opcode, `None` if it is not one of these.
pub(super) fn scalar(code: u8, input: &mut Cursor<'_>) -> Parse<Option<Value>> {
    Ok(Some(match code {
        op::NONE => Value::None,
        op::NEWTRUE => Value::Bool(true),
        op::NEWFALSE => Value::Bool(false),
        op::BININT => Value::Int(i64::from(i32::from_le_bytes(input.array()?))),
        op::BININT1 => Value::Int(i64::from(input.u8()?)),
        op::BININT2 => Value::Int(i64::from(u16::from_le_bytes(input.array()?))),
        op::LONG1 => integer(input.short()?),
        op::LONG4 => {
            let len = input.i32_len()?;
            integer(input.take(len)?)
        }
        op::BINFLOAT => Value::Float(f64::from_be_bytes(input.array()?)),
        op::SHORT_BINUNICODE => text(input.short()?)?,
        op::BINUNICODE => text(input.medium()?)?,
        op::BINUNICODE8 => text(input.long()?)?,
        op::SHORT_BINBYTES => Value::Bytes(input.short()?.into()),
        op::BINBYTES => Value::Bytes(input.medium()?.into()),
        op::BINBYTES8 | op::BYTEARRAY8 => Value::Bytes(input.long()?.into()),
        op::SHORT_BINSTRING => python2_text(input.short()?),
        op::BINSTRING => {
            let len = input.i32_len()?;
            python2_text(input.take(len)?)
        }
        _ => return Ok(None),
    }))
}

/// Two's complement, the lowest byte first, of any length.
fn integer(bytes: &[u8]) -> Value {
    let Some(last) = bytes.last() else { return Value::Int(0) };
    let sign = if last & 0x80 == 0 { 0x00 } else { 0xff };
    let mut word = [sign; 8];
    match word.get_mut(..bytes.len()) {
        Some(low) => {
            low.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(word))
        }
        None => Value::BigInt(bytes.into()),
    }
}

fn text(bytes: &[u8]) -> Parse<Value> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("a text is not UTF-8: {e}"))?;
    Ok(Value::Str(text.into()))
}

/// Python 2 had one type for texts and bytes.
fn python2_text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Str(text.into()),
        Err(_) => Value::Bytes(bytes.into()),
    }
}
